"""Edge builders: which token pairs of a grid are joined. Small objects, composed into a graph by ``build_graph``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .errors import StgraphError, check_number

SPATIAL = 0
"""Value of ``edge_kind`` for an edge inside a frame."""

TEMPORAL = 1
"""Value of ``edge_kind`` for an edge between frames."""

Offset = tuple[int, int, int]
"""(frames, rows, columns) from the earlier, upper or left token of an edge to the other."""


@dataclass(frozen=True)
class SpatialEdges:
    """Edges between neighbouring tokens of one frame.

    Attributes:
        connectivity: 4 joins tokens at Manhattan distance 1 (the paper's E_S); 8 adds the diagonals.
    """

    connectivity: int = 4
    kind: ClassVar[int] = SPATIAL

    def __post_init__(self) -> None:
        if self.connectivity not in (4, 8):
            raise StgraphError(f"spatial connectivity must be 4 or 8, got {self.connectivity!r}")

    @property
    def offsets(self) -> tuple[Offset, ...]:
        """Right and below; with diagonals below-right and below-left."""
        return ((0, 0, 1), (0, 1, 0)) + (((0, 1, 1), (0, 1, -1)) if self.connectivity == 8 else ())


@dataclass(frozen=True)
class TemporalEdges:
    """Edges between tokens at the same position of two frames.

    Attributes:
        stride: frames between the two; 1 joins adjacent frames (the paper's E_T).
    """

    stride: int = 1
    kind: ClassVar[int] = TEMPORAL

    def __post_init__(self) -> None:
        check_number("temporal stride", self.stride, at_least=1, integer=True)

    @property
    def offsets(self) -> tuple[Offset, ...]:
        """The same position, ``stride`` frames later."""
        return ((self.stride, 0, 0),)


EdgeBuilder = SpatialEdges | TemporalEdges
