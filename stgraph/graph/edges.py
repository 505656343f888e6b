"""Edge builders: which token pairs of a video are joined. Small objects, composed into a graph by ``build_graph``.

Two groups, so that a configuration can swap them: ``spatial`` joins tokens inside a frame, ``temporal`` between frames.
"""

from __future__ import annotations

import itertools
from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import kernels
from ..errors import StgraphError, check_number
from ..registry import Registry

SPATIAL = 0
"""Value of ``edge_kind`` for an edge inside a frame."""

TEMPORAL = 1
"""Value of ``edge_kind`` for an edge between frames."""

Offset = tuple[int, int, int]
"""(frames, rows, columns) from the earlier, upper or left token of an edge to the other."""

Cosines = Callable[[Sequence[Offset]], list[Tensor]]
"""For every offset the (T − frames, H − |rows|, W − |columns|) float32 cosines of the pairs that far apart, in raster
order of their earlier token; −∞ where one of the two is missing."""


_CANDIDATES = 1 << 22
"""Similarities held at a time while matches are looked for: 16 MB."""


@dataclass(frozen=True)
class EdgeBuilder(ABC):
    """What joins the tokens of one video; fields are its parameters.

    A builder joins all pairs that lie at its :attr:`offsets`, or picks pairs by their similarity in :meth:`match`.
    """

    kind: ClassVar[int]

    @property
    def offsets(self) -> tuple[Offset, ...]:
        """Where the other end of every edge lies, for a builder that joins all such pairs."""
        return ()

    def match(self, vertices: Tensor, cosines: Cosines) -> tuple[Tensor, Tensor] | None:
        """The edges that depend on similarity: (2, E) int64 vertices, earlier first, and (E,) float32 cosines; or None.

        Args:
            vertices: (T, H, W) int64 vertex at each grid position, −1 where there is none.
            cosines: gives the similarities of all pairs at some offsets.
        """
        return None


@dataclass(frozen=True)
class SpatialBuilder(EdgeBuilder):
    """A builder of edges inside a frame."""

    kind: ClassVar[int] = SPATIAL


@dataclass(frozen=True)
class TemporalBuilder(EdgeBuilder):
    """A builder of edges between frames."""

    kind: ClassVar[int] = TEMPORAL


@dataclass(frozen=True)
class SpatialEdges(SpatialBuilder):
    """Edges between neighbouring tokens of one frame.

    Attributes:
        connectivity: 4 joins tokens at Manhattan distance 1 (the paper's E_S); 8 adds the diagonals.
    """

    connectivity: int = 4

    def __post_init__(self) -> None:
        if self.connectivity not in (4, 8):
            raise StgraphError(f"spatial connectivity must be 4 or 8, got {self.connectivity!r}")

    @property
    def offsets(self) -> tuple[Offset, ...]:
        """Right and below; with diagonals below-right and below-left."""
        return ((0, 0, 1), (0, 1, 0)) + (((0, 1, 1), (0, 1, -1)) if self.connectivity == 8 else ())


@dataclass(frozen=True)
class NoSpatialEdges(SpatialBuilder):
    """No edges inside a frame: every position is followed through time on its own."""


@dataclass(frozen=True)
class TemporalEdges(TemporalBuilder):
    """Edges between tokens at the same position of two frames.

    Attributes:
        stride: frames between the two; 1 joins adjacent frames (the paper's E_T).
    """

    stride: int = 1

    def __post_init__(self) -> None:
        check_number("temporal stride", self.stride, at_least=1, integer=True)

    @property
    def offsets(self) -> tuple[Offset, ...]:
        """The same position, ``stride`` frames later."""
        return ((self.stride, 0, 0),)


@dataclass(frozen=True)
class MotionEdges(TemporalBuilder):
    """Edges from each token to its best match in the previous frame, so that what moves stays connected.

    Of the tokens of the previous frame at most ``radius`` rows and ``radius`` columns away (Chebyshev distance) the
    most similar one is joined; of equally similar ones the nearest (Euclidean distance), then the one with the smaller
    index. So a token has at most one edge into its past, and any number into its future. Difference detectors read
    these edges too: a token then differs from where it came from, not from what was at its place before.

    Radius 0 is the paper's E_T, edge by edge; without a bound every token looks at the whole previous frame, as in
    FlashVID; ForestPrune bounds the distance. Time is that of tokens × window × d, with no bound tokens × (H·W) × d;
    memory stays linear in the tokens.

    Attributes:
        radius: largest displacement in rows and in columns, in tokens per frame, ≥ 0; None for no bound.
        minimum_similarity: a match below it is no edge, in [−1, 1]. Such a token has no past, so its difference score
            is 0: raise it with care where events matter.
    """

    radius: int | None = 1
    minimum_similarity: float = -1.0

    def __post_init__(self) -> None:
        if self.radius is not None:
            check_number("motion radius", self.radius, at_least=0, integer=True)
        check_number("motion minimum_similarity", self.minimum_similarity, at_least=-1, at_most=1)

    def match(self, vertices: Tensor, cosines: Cosines) -> tuple[Tensor, Tensor]:
        """The best match of every token that has one, in raster order of the later token."""
        frames, height, width = vertices.shape
        best = torch.full((max(frames - 1, 0), height, width), -torch.inf, dtype=torch.float32, device=vertices.device)
        source = torch.full_like(vertices[1:], -1)
        window = self._window(height, width)
        step = max(1, _CANDIDATES // max(1, vertices.numel()))  # displacements of one pass over the frames
        for first in range(0, len(window), step):
            offsets = window[first : first + step]
            for offset, cosine in zip(offsets, cosines(offsets), strict=True):
                (earlier, _), (_, best_here), (_, source_here) = (
                    kernels.edge_ends(vertices, offset),
                    kernels.edge_ends(best, (0, *offset[1:])),
                    kernels.edge_ends(source, (0, *offset[1:])),
                )
                better = cosine > best_here  # strictly: of equal ones the first, the window being sorted
                best_here.copy_(torch.where(better, cosine, best_here))
                source_here.copy_(torch.where(better, earlier, source_here))
        least = round(self.minimum_similarity / kernels.GRID) * kernels.GRID
        found = (source >= 0) & (best >= least)
        return torch.stack([source[found], vertices[1:][found]]), best[found]

    def _window(self, height: int, width: int) -> list[Offset]:
        """Displacements from the earlier to the later token, the nearest first, then those from the smaller index."""
        rows, columns = (n - 1 if self.radius is None else min(self.radius, n - 1) for n in (height, width))
        steps = itertools.product(range(-rows, rows + 1), range(-columns, columns + 1))
        return [(1, y, x) for y, x in sorted(steps, key=lambda s: (s[0] ** 2 + s[1] ** 2, -s[0], -s[1]))]


@dataclass(frozen=True)
class NoTemporalEdges(TemporalBuilder):
    """No edges between frames: every frame on its own. No token has a past, so none is an event."""


SPATIAL_EDGES: Registry[SpatialBuilder] = Registry(
    "spatial",
    "stgraph.graph.edges:SpatialBuilder",
    {
        "grid": "stgraph.graph.edges:SpatialEdges",
        "none": "stgraph.graph.edges:NoSpatialEdges",
    },
)

TEMPORAL_EDGES: Registry[TemporalBuilder] = Registry(
    "temporal",
    "stgraph.graph.edges:TemporalBuilder",
    {
        "aligned": "stgraph.graph.edges:TemporalEdges",
        "motion": "stgraph.graph.edges:MotionEdges",
        "none": "stgraph.graph.edges:NoTemporalEdges",
    },
)


def first_of_each(edge_index: Tensor, num_nodes: int) -> Tensor:
    """(E,) bool, False for an edge that joins the same (first, second) vertices as one before it."""
    key = edge_index[0] * num_nodes + edge_index[1]
    order = torch.sort(key, stable=True).indices
    first = torch.ones_like(key, dtype=torch.bool)
    first[order[1:]] = key[order][1:] != key[order][:-1]
    return first
