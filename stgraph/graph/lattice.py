"""Whole lattices: what the parts of the paper's selection do without a graph.

A part (a threshold, a community detector, a difference detector, an importance) that can do its work straight on the
edges of whole lattices (grids without holes) says so itself, in a method ``on_lattice`` beside the one that works on a
graph. The selectors take the short way where all their parts can. A test holds both tellings of every such part against
each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from .edges import EdgeBuilder, Offset, SpatialBuilder, TemporalBuilder

EDGES: tuple[tuple[Offset, ...], tuple[Offset, ...]] = (((0, 0, 1), (0, 1, 0)), ((1, 0, 0),))
"""Offsets of the edges that are known: the paper's E_S and E_T."""


class LatticeEdges(NamedTuple):
    """The paper's edges of B videos of one size, each kept at its later token.

    Attributes:
        left: (B, T, H, W) float32 weight of every token's edge to the left; without meaning in the first column.
        above: of its edge upwards; without meaning in the first row.
        before: of its edge one frame back; without meaning in the first frame.
    """

    left: Tensor
    above: Tensor
    before: Tensor


def is_known(spatial: SpatialBuilder, temporal: TemporalBuilder) -> bool:
    """Whether two builders join what :class:`LatticeEdges` holds, and nothing else."""
    plain = all(type(builder).match is EdgeBuilder.match for builder in (spatial, temporal))
    return plain and (spatial.offsets, temporal.offsets) == EDGES


def on_lattice(part: object) -> Callable[..., Any] | None:
    """What a part does on whole lattices, or None. What a class inherits does not count: it is what its base does."""
    if "on_lattice" not in vars(type(part)):
        return None
    found: Callable[..., Any] | None = part.on_lattice()  # type: ignore[attr-defined]
    return found
