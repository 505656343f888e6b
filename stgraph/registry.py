"""Registries: a pluggable method is a frozen dataclass in a file of its own and one line in its folder's table.

That line is all the configuration, the command line, ``stgraph methods`` and the shared contract tests need.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from .errors import StgraphError, nearest, plain_number

M = TypeVar("M")

_GROUPS: dict[str, Registry[Any]] = {}


class Registry(Generic[M]):
    """The methods of one group by name, imported only when asked for.

    ``entries`` maps a name to ``"module:Class"``. A name that itself has the form ``"package.module:Class"`` is
    imported directly, so a method that lives outside stgraph can be named in a configuration without registering it.
    """

    def __init__(self, group: str, base: str, entries: Mapping[str, str]) -> None:
        self.group = group
        self._base = base
        self._entries: dict[str, str | type[M]] = dict(entries)
        _GROUPS[group] = self

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def register(self, name: str, method: type[M]) -> None:
        """Add a method class under ``name`` for this process."""
        self._entries[name] = method

    def get(self, name: str) -> type[M]:
        """The class called ``name``; raises :class:`StgraphError` with the nearest known name."""
        entry = self._entries.get(name)
        if entry is None and ":" not in name:
            raise StgraphError(f"there is no {self.group} called {name!r}{nearest(name, self)}")
        target = name if entry is None else entry
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            try:
                target = getattr(importlib.import_module(module), attribute)
            except Exception as error:  # a module of the user can raise any exception
                if entry is not None:
                    raise
                reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                raise StgraphError(
                    f"{self.group} {name!r} cannot be imported ({' '.join(reason.split())}); it must have the form "
                    "module:Class, of a module in the working folder or an installed package"
                ) from error
        method = typing.cast("type[M]", target)
        if not (isinstance(method, type) and issubclass(method, self.base) and dataclasses.is_dataclass(method)):
            raise StgraphError(f"{self.group} {name!r} must be a dataclass derived from {self.base.__name__}")
        return method

    @property
    def base(self) -> type:
        """The base class that every method of this group derives from."""
        module, _, attribute = self._base.partition(":")
        return typing.cast(type, getattr(importlib.import_module(module), attribute))

    def name_of(self, method: M) -> str:
        """The registered name of an instance, or ``"module:Class"`` when it is not registered."""
        cls = type(method)
        path = f"{cls.__module__}:{cls.__qualname__}"
        for name, entry in self._entries.items():
            if entry is cls or entry == path:
                return name
        return path

    def build(self, spec: str | Mapping[str, Any] | M) -> M:
        """An instance from a name, from ``{"name": ..., parameter: value}``, or from an instance as it is.

        Raises:
            StgraphError: unknown name or parameter (with the nearest one), or a value of the wrong type.
        """
        if isinstance(spec, str):
            spec = {"name": spec}
        if not isinstance(spec, Mapping):
            if not isinstance(spec, self.base):
                raise StgraphError(f"{self.group} must be a name, a mapping or a {self.base.__name__}, got {spec!r}")
            return spec
        parameters = dict(spec)
        name = parameters.pop("name", None)
        if not isinstance(name, str):
            raise StgraphError(f"{self.group} needs a name, one of {', '.join(self)}; got {name!r}")
        cls = self.get(name)
        known = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
        hints = typing.get_type_hints(cls)
        for key, value in parameters.items():
            if key not in known:
                raise StgraphError(f"{self.group} {name!r} has no parameter {key!r}{nearest(key, known)}")
            nested = known[key].metadata.get("group")
            if nested is not None:
                parameters[key] = registry(nested).build(value)
            else:
                label = key if self.group == "selector" else f"{self.group}.{key}"  # as it stands on the command line
                parameters[key] = _checked(label, value, hints[key])
        return cls(**parameters)

    def config(self, method: M) -> dict[str, Any]:
        """The inverse of :meth:`build`: plain data that JSON and YAML can hold."""
        values: dict[str, Any] = {"name": self.name_of(method)}
        for field in dataclasses.fields(method):  # type: ignore[arg-type]
            if field.init:
                value = getattr(method, field.name)
                nested = field.metadata.get("group")
                values[field.name] = registry(nested).config(value) if nested else _plain(value)
        return values

    def default_config(self, name: str) -> dict[str, Any]:
        """Parameters of the method called ``name`` at their defaults."""
        return self.config(self.build(name)) | {"name": name}


def group_field(group: str, default: str) -> Any:
    """A dataclass field that holds a method of another group, built from its name when not given."""
    return dataclasses.field(default_factory=lambda: registry(group).build(default), metadata={"group": group})


def build_groups(method: object) -> None:
    """Put methods in the place of the names and mappings that a dataclass was given for its :func:`group_field` ones.

    Raises:
        StgraphError: neither a method of the group nor what :meth:`Registry.build` makes one of.
    """
    for field in dataclasses.fields(method):  # type: ignore[arg-type]
        if "group" in field.metadata:
            built = registry(field.metadata["group"]).build(getattr(method, field.name))
            object.__setattr__(method, field.name, built)


def registry(group: str) -> Registry[Any]:
    """The registry of ``group``, importing the folder that defines it."""
    if group not in _GROUPS:
        importlib.import_module(GROUPS[group])
    return _GROUPS[group]


GROUPS = {
    "encoder": "stgraph.encoders",
    "spatial": "stgraph.graph.edges",
    "temporal": "stgraph.graph.edges",
    "similarity_threshold": "stgraph.graph.thresholds",
    "community": "stgraph.community",
    "difference": "stgraph.difference",
    "importance": "stgraph.importance",
    "selector": "stgraph.selectors",
}
"""Group name -> the module that holds its table, in the order of the pipeline."""


def _checked(name: str, value: Any, hint: Any) -> Any:
    """``value`` as the annotation wants it (an int is a float too, a list may stand for a tuple), or a clear error."""
    value = plain_number(value)
    options = (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is typing.Literal:
            if value in typing.get_args(option):
                return value
        elif option is type(None) or option is None:
            if value is None:
                return value
        elif option is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        elif option is int:
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        elif origin is tuple:
            if isinstance(value, (list, tuple)):
                return tuple(value)
        elif not isinstance(origin, type) or isinstance(value, origin):
            return value
    wanted = " or ".join(_words(option) for option in options)
    raise StgraphError(f"{name} must be {wanted}, got {value!r}")


def _words(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(option))
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(option, str(option))


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else plain_number(value)
