"""Configuration: the same words on the command line, in YAML files and in the experiments.

``community=leiden`` chooses a method of a group, ``community.resolution=0.5`` sets one of its parameters,
``retention=0.3`` one of the selector's. The grammar of overrides is Hydra's; what there is to configure follows from
the registries alone.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import StgraphError, check_choice, nearest
from ..registry import registry
from .config_file import load_preset, presets

if TYPE_CHECKING:
    from ..encoders import Encoder
    from ..selectors import Selector
from .overrides import parse

VIDEO: dict[str, Any] = {
    "frames": None,
    "fps": None,
    "stride": None,
    "max_frames": None,
    "start": None,
    "end": None,
    "size": None,
}
"""Parameters of :func:`stgraph.read_video`; without frames, fps and stride it samples 64 frames."""

_BUDGETS = ("retention", "tokens")
"""Settings that say how much stays; ``tokens`` counts where both are known."""


@dataclass(frozen=True)
class Config:
    """A full configuration of one run: plain data, with every default filled in.

    Attributes:
        data: ``video``, ``encoder``, ``selector``, the selector's common fields (``retention``, ``separators``) and one
            entry for every group that the selector uses (``community``, ``difference``, ...).
        unused: settings of a comparison that the methods chosen here do not have, with the name of the one that lacks
            it; empty for a single run.
    """

    data: dict[str, Any]
    unused: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def video(self) -> dict[str, Any]:
        """Arguments of :func:`stgraph.read_video`."""
        return {key: value for key, value in self.data["video"].items() if value is not None}

    def encoder(self) -> Encoder:
        """The encoder."""
        encoder: Encoder = registry("encoder").build(self.data["encoder"])
        return encoder

    def selector(self) -> Selector:
        """The selector, with its methods."""
        shared = {key: value for key, value in self.data.items() if key not in ("video", "encoder", "selector")}
        selector: Selector = registry("selector").build({**self.data["selector"], **shared})
        return selector

    def to_yaml(self) -> str:
        """YAML that :func:`load_config` reads back to the same configuration."""
        import yaml

        text: str = yaml.safe_dump(self.data, sort_keys=False, allow_unicode=True)
        return text


def resolve(overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None, *, trust: bool = False) -> Config:
    """The full configuration from overrides, on top of ``base``, on top of the defaults.

    Args:
        overrides: such as ``["community=leiden", "difference.threshold=0.15", "retention=0.3"]``.
        base: nested plain data, as in a YAML file; any part of a full configuration.
        trust: import classes that ``base`` names as ``module:Class``, which runs the code of that module. Those that
            ``overrides`` name are imported, since whoever typed them meant them.

    Raises:
        StgraphError: an override that cannot be parsed, an unknown name (with the nearest), a value out of range, or a
            foreign class in ``base`` without ``trust``.
    """
    if not trust:
        _refuse_foreign(base)
    config, refused = _resolve(overrides, base)
    for error in refused.values():
        raise error
    return config


def preset(name: str, **changes: Any) -> Selector:
    """The selector of a configuration that ships with stgraph, such as ``preset("tuned", retention=0.1)``.

    Args:
        name: one of :func:`stgraph.app.config_file.presets`.
        changes: settings that replace those of the preset.

    Raises:
        StgraphError: no such preset, or as :func:`resolve`.
    """
    check_choice("preset", name, presets())
    return resolve(base={**load_preset(name), **changes}).selector()


def resolve_all(
    combinations: Sequence[Sequence[str]], base: Mapping[str, Any] | None = None, *, trust: bool = False
) -> list[Config]:
    """One configuration for each list of overrides, where a setting applies to those whose methods have it.

    So ``selector.signal=features`` may stand beside a list of selectors of which some have no such parameter;
    :attr:`Config.unused` says which.

    Raises:
        StgraphError: as :func:`resolve`, or a setting that none of them has.
    """
    if not trust:
        _refuse_foreign(base)
    resolved = [_resolve(overrides, base) for overrides in combinations]
    for key in dict.fromkeys(key for _, refused in resolved for key in refused):
        errors = [refused[key] for _, refused in resolved if key in refused]
        if len(errors) < len(resolved):
            continue
        methods = dict.fromkeys(error.method for error in errors)
        if len(methods) == 1:
            raise errors[0]
        known = {name for config, _ in resolved for name, _ in _flatten(config.data)}
        hint = nearest(key, known) if "." in key else "; leave it out or choose another selector"
        raise StgraphError(f"none of {', '.join(methods)} has the setting {key!r}{hint}")
    return [
        dataclasses.replace(config, unused={key: error.method for key, error in refused.items()})
        for config, refused in resolved
    ]


def names_foreign(value: str) -> bool:
    """Whether a value names a class outside stgraph's tables, as ``module:Class``."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value) is not None and not value.startswith("hf:")


def _refuse_foreign(base: Mapping[str, Any] | None) -> None:
    """Raise where plain data names a class that would have to be imported."""
    todo: list[tuple[str, Any]] = list((base or {}).items())
    while todo:
        key, value = todo.pop(0)
        if isinstance(value, Mapping):
            todo += [(f"{key}.{name}" if name != "name" else key, item) for name, item in value.items()]
        elif isinstance(value, list):
            todo += [(key, item) for item in value]
        elif isinstance(value, str) and names_foreign(value):
            raise StgraphError(
                f"the configuration sets {key} to {value}, which runs code from outside stgraph; add --trust "
                f"(trust=True) if you trust it, or give {key}={value} on the command line"
            )


class _UnusedSettingError(StgraphError):
    """A setting that the method called ``method`` does not have."""

    def __init__(self, sentence: str, method: str) -> None:
        super().__init__(sentence)
        self.method = method


def _resolve(overrides: Sequence[str], base: Mapping[str, Any] | None) -> tuple[Config, dict[str, _UnusedSettingError]]:
    """The configuration, and what it leaves out because no method that was chosen has such a setting."""
    given = [parse(text) for text in overrides]
    budgets = [key for key, value in given if key in _BUDGETS and value is not None]
    if len(set(budgets)) > 1:
        raise StgraphError("retention and tokens both set how many tokens are kept; give one of them")
    # An override replaces what the file says of the same thing, the parameters of another method included.
    kept = [s for s in _flatten(base or {}) if not any(s[0] == key or s[0].startswith(f"{key}.") for key, _ in given)]
    if "retention" in budgets:
        kept = [setting for setting in kept if setting[0] != "tokens"]
    chosen = [value for key, value in [*kept, *given] if key == "selector"]
    tree = _defaults(_method_name("selector", chosen[-1]) if chosen else "simdiff")
    if any(key == "selector" for key, _ in given):  # ... and what another selector would have used
        kept = [s for s in kept if s[0].split(".")[0] in tree or s[0].split(".")[0] not in _all_shared()]
    # Methods are chosen before their parameters are set, as Hydra does, so that the order of overrides does not matter.
    # The selector is chosen already: its fields are the top level of the settings.
    settings = [setting for setting in (*kept, *given) if setting[0] != "selector"]
    settings.sort(key=lambda setting: setting[0].count("."))
    refused = {}
    for key, value in settings:
        try:
            _set(tree, key, value)
        except _UnusedSettingError as error:
            refused[key] = error
    config = Config(tree)
    config.encoder()
    tree["separators"] = config.selector().separators  # a preset may change this field: record the value that is used
    return config, refused


def _flatten(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested data as settings; the ``name`` of a mapping becomes the choice of its method."""
    settings: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            if "name" in value:
                settings.append((f"{prefix}{key}", value["name"]))
            settings += _flatten({k: v for k, v in value.items() if k != "name"}, f"{prefix}{key}.")
        else:
            settings.append((f"{prefix}{key}", value))
    return settings


def _defaults(selector: str) -> dict[str, Any]:
    """Every setting that a run with this selector has."""
    own = registry("selector").default_config(selector)
    shared = _shared(selector)
    return {
        "video": copy.deepcopy(VIDEO),
        "encoder": registry("encoder").default_config("descriptor"),
        "selector": {key: value for key, value in own.items() if key not in shared},
        **{key: own[key] for key in shared},
    }


def _shared(selector: str) -> list[str]:
    """Fields of a selector that stand at the top level: those all selectors have, and those that name a method."""
    registered = registry("selector")
    common = {field.name for field in dataclasses.fields(registered.base)}
    fields = dataclasses.fields(registered.get(selector))
    return [field.name for field in fields if field.name in common or "group" in field.metadata]


def _all_shared() -> set[str]:
    return {name for selector in registry("selector") for name in _shared(selector)}


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    head, *rest = key.split(".")
    selector = tree["selector"]["name"]
    if head == "video":
        if not rest:
            raise StgraphError("video settings are given one by one, such as video.frames=64")
        if len(rest) > 1 or rest[0] not in VIDEO:
            raise StgraphError(f"there is no setting {key!r}{nearest(key, [f'video.{name}' for name in VIDEO])}")
        tree["video"][rest[0]] = value
    elif head not in tree:
        if head in _all_shared():
            raise _UnusedSettingError(
                f"selector {selector!r} does not use {head!r}; leave it out or choose another selector", selector
            )
        known = [
            *tree,
            *_all_shared(),
            *(f"{group}.{name}" for group, node in tree.items() if isinstance(node, dict) for name in node),
        ]
        raise StgraphError(f"there is no setting {key!r}{nearest(key, known)}")
    elif head == "selector" and rest[0] in tree:
        raise StgraphError(f"{rest[0]!r} stands at the top level: write {'.'.join(rest)}= in place of {key}=")
    else:
        fields = dataclasses.fields(registry("selector").get(selector))
        groups = {field.name: field.metadata.get("group") for field in fields} | {
            "encoder": "encoder",
            "selector": "selector",
        }
        _set_field(tree, head, rest, groups.get(head), value, key)


def _set_field(node: dict[str, Any], name: str, rest: list[str], group: str | None, value: Any, key: str) -> None:
    """Set ``name`` of a node, or what ``rest`` leads to below it; ``group`` says which methods it chooses from."""
    if group is None:
        if rest:
            raise StgraphError(f"there is no setting {key!r}: {name!r} is a single value")
        node[name] = value
    elif not rest:
        node[name] = _choose(group, value)
    else:
        method = node[name]
        if not isinstance(method, dict):
            raise StgraphError(f"{key!r} cannot be set: {name} is {method!r}, which has no parameters")
        fields = dataclasses.fields(registry(group).get(method["name"]))
        known = {field.name: field.metadata.get("group") for field in fields if field.name in method}
        if rest[0] not in known:
            sentence = f"{group} {method['name']!r} has no parameter {rest[0]!r}{nearest(rest[0], known)}"
            raise _UnusedSettingError(sentence, method["name"])
        _set_field(method, rest[0], rest[1:], known[rest[0]], value, key)


def _choose(group: str, value: Any) -> Any:
    """The configuration of a method at its defaults, from its name (``hf:FOLDER`` names the model too)."""
    if group == "encoder" and isinstance(value, str) and value.startswith("hf:"):
        return {**registry(group).default_config("hf"), "model": value.removeprefix("hf:")}
    if not isinstance(value, str):
        return registry(group).config(registry(group).build(value))
    return registry(group).default_config(_method_name(group, value))


def _method_name(group: str, value: Any) -> str:
    if not isinstance(value, str):
        raise StgraphError(f"{group} must be a name, one of {', '.join(registry(group))}; got {value!r}")
    registry(group).get(value)
    return value
