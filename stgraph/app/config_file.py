"""The YAML file of a configuration: plain data, without code and without keys given twice. Some ship by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import StgraphError, readable


def presets() -> list[str]:
    """Names of the configurations that ship with stgraph; docs/studies.md has the evidence for each."""
    return sorted(_shipped())


def load_preset(name: str) -> dict[str, Any]:
    """The plain data of a preset, one of :func:`presets`, whatever files there are."""
    return _parsed(_shipped()[name].read_text("utf-8"), name)


def _shipped() -> dict[str, Any]:
    """Name -> the file in the package."""
    files = resources.files("stgraph.app").joinpath("presets").iterdir()
    return {file.name.removesuffix(".yaml"): file for file in files if file.name.endswith(".yaml")}


def load_config(path: str | Path) -> dict[str, Any]:
    """The plain data of a YAML configuration file, or of a preset.

    Args:
        path: of the file; or one of :func:`presets`, where no such file exists.

    Raises:
        StgraphError: no such file and no such preset, not a YAML mapping, a key that is given twice, or one that holds
            itself.
    """
    path, name = Path(path), readable(path)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        if str(path) in (known := presets()):
            return load_preset(str(path))
        raise StgraphError(f"there is no configuration file {name}; by name there are: {', '.join(known)}") from error
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    return _parsed(text, name)


def _unreadable(name: str, error: Exception) -> StgraphError:
    return StgraphError(f"{name} is not a YAML file of settings: {' '.join(str(error).split())}")


def _parsed(text: str, name: str) -> dict[str, Any]:
    """The plain data of a text in YAML."""
    import yaml

    try:
        data = yaml.load(text, _loader())  # a safe loader that refuses keys given twice
        _check_plain(data)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise _unreadable(name, error) from error
    if not isinstance(data, dict):
        raise StgraphError(f"{name} must hold a YAML mapping such as 'retention: 0.3'")
    return data


@cache
def _loader() -> Any:
    """yaml's safe loader, but a key that is given twice in a mapping is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[object] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, (str, int, float, bool)) and key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
                seen |= {key} if isinstance(key, (str, int, float, bool)) else set()
            return super().construct_mapping(node, deep)

    return Loader


_MOST_VALUES = 10_000
"""Values that a configuration file may hold, aliases spelled out."""


def _check_plain(data: Any) -> None:
    """Raise ValueError for data that holds itself, or is far too much, by YAML's aliases."""
    todo, count = [(data, frozenset[int]())], 0
    while todo:
        value, above = todo.pop()
        count += 1
        if id(value) in above:
            raise ValueError("a value contains itself through an alias (*)")
        if count > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES} values")
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        todo += [(item, above | {id(value)}) for item in inside]
