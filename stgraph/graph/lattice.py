"""Whole lattices: what the parts of the paper's selection do without a graph.

A part is a threshold, a community detector, a difference detector or an importance. Some parts can work on the edges of
whole lattices (grids without holes). Such a part has a method ``on_lattice`` beside the one that works on a graph.
Selectors use these methods where all their parts have them. A test compares both methods of every such part.
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
    """The method of a part for whole lattices, or None.

    An inherited method does not count, because it does what the base class does.
    """
    if "on_lattice" not in vars(type(part)):
        return None
    found: Callable[..., Any] | None = part.on_lattice()  # type: ignore[attr-defined]
    return found
