"""Overrides of the command line: their grammar, several values, and methods that a pattern names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..errors import StgraphError, nearest
from ..registry import GROUPS, registry


def sweep(overrides: Sequence[str]) -> list[list[str]]:
    """All combinations of overrides with several values: ``["a=1,2", "b=3"]`` → ``[["a=1", "b=3"], ["a=2",
    "b=3"]]``.

    ``glob`` stands for all methods of a group with such a name: ``selector=glob(*)``, ``community=glob([l*,info*])``.
    """
    axes = []
    for text in overrides:
        override = _parser().parse_override(text) if _parses(text) else None
        if override is not None and override.is_choice_sweep() and hasattr(override.value(), "filter"):
            axes.append([f"{override.key_or_group}={name}" for name in _matching(override.key_or_group, override)])
        elif override is not None and override.is_choice_sweep():
            axes.append([f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()])
        else:
            axes.append([text])
    return [list(combination) for combination in itertools.product(*axes)]


def _matching(group: str, override: Any) -> list[str]:
    """Names of a group's methods, in the order of its table, that a glob stands for."""
    if group not in GROUPS:
        raise StgraphError(f"{override.input_line!r}: glob stands for methods of {', '.join(GROUPS)}; list the values")
    names: list[str] = override.value().filter(list(registry(group)))
    if not names:
        raise StgraphError(f"no {group} has a name as in {override.input_line!r}{nearest('', registry(group))}")
    return names


def _parser() -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _parses(text: str) -> bool:
    from hydra.errors import HydraException

    try:
        _parser().parse_override(text)
    except HydraException:
        return False
    return True


def parse(text: str) -> tuple[str, Any]:
    """The key and the one value of an override.

    Raises:
        StgraphError: text without the form name=value, a value that cannot be read, or several values.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise StgraphError(f"override {text!r} must have the form name=value, such as retention=0.3")
    if not _parses(text):
        raise StgraphError(f"the value in {text!r} cannot be read; put quotes around text with special characters")
    override = _parser().parse_override(text)
    if override.is_delete() or override.is_add() or override.is_force_add():
        raise StgraphError(
            f"override {text!r} must have the form name=value; adding and deleting entries is not possible"
        )
    if override.is_sweep_override():
        raise StgraphError(f"{text!r} gives several values; one run takes one, `stgraph compare` takes many")
    value = override.value()
    return key.strip(), raw.strip() if isinstance(value, str) and value.startswith("hf:") else _plain(value)


def _plain(value: Any) -> Any:
    """Replace Hydra's quoted strings by plain ones, also inside lists and mappings."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value.text if hasattr(value, "text") else value
