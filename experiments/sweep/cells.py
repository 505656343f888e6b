"""Cells and their names: a name is a digest of all that a result depends on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from importlib import metadata
from typing import Any, NamedTuple

from stgraph import __version__
from stgraph.app.config import Config
from stgraph.errors import check_choice, check_number
from stgraph.registry import registry

LIBRARIES = ("torch", "transformers")
"""Whose versions are part of a cell's name, beside that of stgraph."""


class Cell(NamedTuple):
    """One configuration on one clip.

    Attributes:
        configuration: its name.
        clip: the clip's name.
    """

    configuration: str
    clip: str

    @property
    def name(self) -> str:
        """The digest of all that its result depends on."""
        return digest([self.configuration, self.clip])


@dataclass(frozen=True)
class Plan:
    """Configurations × clips.

    Attributes:
        identity: of the evaluator, see :class:`experiments.sweep.Evaluator`.
        settings: one for each configuration, as :func:`settings_of` makes them.
        clips: names of clips.
    """

    identity: Mapping[str, str]
    settings: Sequence[Mapping[str, Any]]
    clips: Sequence[str]

    @cached_property
    def configurations(self) -> dict[str, dict[str, Any]]:
        """Everything that a result depends on but the clip, by its digest."""
        contents = [content(settings, self.identity) for settings in self.settings]
        return {digest(each): each for each in contents}

    @property
    def cells(self) -> Iterable[Cell]:
        """Every cell, clip by clip, so that a clip is encoded once."""
        return (Cell(configuration, clip) for clip in self.clips for configuration in self.configurations)

    def __len__(self) -> int:
        return len(self.configurations) * len(self.clips)


def settings_of(config: Config | None, *, trim: str | None = None, layer: int | None = None) -> dict[str, Any]:
    """The settings of a cell as plain data.

    Args:
        config: whose selector is used; None for the model that sees all tokens.
        trim: ``"before"`` or ``"inside"`` the LLM; None is the selector's own place.
        layer: with ``"inside"``, the layer that trims.

    Raises:
        StgraphError: a value out of range.
    """
    if trim is not None:
        check_choice("trim", trim, ("before", "inside"))
    if layer is not None:
        check_number("layer", layer, at_least=0, integer=True)
    if config is None:
        return {"selector": None, "trim": None, "layer": None}
    return {"selector": registry("selector").config(config.selector()), "trim": trim, "layer": layer}


def content(settings: Mapping[str, Any], identity: Mapping[str, str]) -> dict[str, Any]:
    """What a result depends on besides the clip: settings, the evaluator's identity, and versions of libraries."""
    versions = {"stgraph": __version__} | {name: _version(name) for name in LIBRARIES}
    return {**settings, "identity": dict(identity), "versions": versions}


def digest(value: Any) -> str:
    """A name for plain data: equal data, equal name."""
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
