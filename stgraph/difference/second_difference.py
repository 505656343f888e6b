"""Second difference: where the path of a token bends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .base import DifferenceDetector, lagged_difference


@dataclass(frozen=True)
class SecondDifference(DifferenceDetector):
    """Tokens at which the path of their position through feature space bends: ½ ‖u₋₁ − 2u₀ + u₊₁‖² of unit vectors u.

    A step between contents of difference D = 1 − cosine scores D in the last frame before and in the first after it, a
    flash of one frame 4 D, steady change nothing. Sees flashes, steps, and the start and end of motion. Blind to
    steady drift by design; adds up noise (three times that of the first difference).

    In cosines it is 2 D(−1, 0) + 2 D(0, +1) − D(−1, +1), so no vector is formed.

    Source: the discrete second derivative (Laplacian in time); the normalisation is this project's own.

    Attributes:
        bend: score above which a token is marked, in [0, 8]; at the default a step is marked as by the paper's τ_diff
            0.2.
        causal: False puts the score at the middle of the three frames, which needs the next frame and marks a step on
            both sides; True puts it at the last one, for streams, where a step is marked in its first frame and in the
            next.
    """

    bend: float = 0.8
    causal: bool = False

    def __post_init__(self) -> None:
        check_number("difference bend", self.bend, at_least=0, at_most=8)

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32; 0 where one of the three tokens is missing, so in the first and last frame of a video."""
        score = graph.norm.new_zeros(graph.num_nodes).float()
        earlier, later, drop = lagged_difference(graph, 1)
        step = score.index_copy(0, later, drop)
        previous = torch.full_like(graph.token, -1).index_copy_(0, later, earlier)
        _, last, across = lagged_difference(graph, 2)
        middle = previous[last]
        known = middle >= 0
        middle, last, across = middle[known], last[known], across[known]
        bend = 2 * step[middle] + 2 * step[last] - across
        score[last if self.causal else middle] = bend.clamp_(min=0)  # rounding may leave it just below
        return score

    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """The bend: the same for every video."""
        return self.bend
