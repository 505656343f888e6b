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
    files = resources.files("stgraph.app").joinpath("presets").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_config(path: str | Path) -> dict[str, Any]:
    """The plain data of a YAML configuration file, or of a preset.

    Args:
        path: of the file; or one of :func:`presets`, where no such file exists.

    Raises:
        StgraphError: no such file and no such preset, not a YAML mapping, a key that is given twice, or one that holds
            itself.
    """
    import yaml

    path, name = Path(path), readable(path)
    known = presets()
    try:
        source: Any = path
        if str(path) in known and not path.exists():
            source = resources.files("stgraph.app").joinpath("presets", f"{path}.yaml")
        data = yaml.load(source.read_text("utf-8"), _loader())  # a safe loader that refuses keys given twice
        _check_plain(data)
    except FileNotFoundError as error:
        shipped = f"; by name there are: {', '.join(known)}" if known else ""
        raise StgraphError(f"there is no configuration file {name}{shipped}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise StgraphError(f"{name} is not a YAML file of settings: {' '.join(str(error).split())}") from error
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
