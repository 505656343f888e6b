"""Multi-scale temporal difference: change over one, two, four and eight frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..errors import StgraphError, check_choice, check_number
from ..graph import SpatioTemporalGraph
from .base import lagged_difference
from .threshold import Threshold


@dataclass(frozen=True)
class Multiscale(Threshold):
    """Tokens that differ from the same position at any of several distances before.

    Sees abrupt change, and gradual change as soon as the longest distance spans enough of it. Both echo: everything
    that happened is marked until the longest distance has passed, which finds the whole of a slow event and its
    aftermath, at the price of precision (:class:`~stgraph.difference.drift.Drift` removes the echo). Blind to slower
    drift, and to purely spatial change.

    Source: temporal edges of several strides; the paper's are those of distance 1.

    Attributes:
        threshold: τ_diff, a cosine similarity in [−1, 1]; the paper's 0.2.
        distances: in frames, each ≥ 1; each costs one pass over the features.
        combine: ``"max"`` takes the largest difference, ``"weighted"`` the mean weighted by 1 / distance over those
            distances that the token has a past at.
    """

    distances: tuple[int, ...] = (1, 2, 4, 8)
    combine: Literal["max", "weighted"] = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.distances, tuple) or not self.distances:
            raise StgraphError(f"difference distances must be one or more whole numbers ≥ 1, got {self.distances!r}")
        for distance in self.distances:
            check_number("difference distance", distance, at_least=1, integer=True)
        check_choice("difference combine", self.combine, ("max", "weighted"))

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32, the differences at all distances combined; 0 without any past."""
        largest = graph.norm.new_zeros(graph.num_nodes).float()
        total, weight = graph.norm.new_zeros((2, graph.num_nodes))
        for distance in self.distances:
            _, later, drop = lagged_difference(graph, distance)
            largest[later] = largest[later].maximum(drop)
            total[later] += drop / distance
            weight[later] += 1 / distance
        return largest if self.combine == "max" else (total / weight.where(weight > 0, 1)).float()
