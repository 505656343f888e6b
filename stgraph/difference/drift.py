"""Drift: gradual change, accumulated over many frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .base import lagged_difference
from .threshold import Threshold


@dataclass(frozen=True)
class Drift(Threshold):
    """Tokens that have moved away from what was there before, at once or little by little: change that accumulates.

    Every token is compared with the same position 1, 2, 4, … frames before. A large difference over a long distance
    could also come from a cut many frames ago. So the difference counts only as far as the change is spread over the
    whole distance: in a steady drift the features move on a straight line, so over half the distance 1 − cosine is a
    quarter.
    With D_h(t) the difference of frames t and t − h::

        steady_1(t)  = D_1(t)
        steady_2h(t) = min(D_2h(t), 4 · steady_h(t), 4 · D_h(t − h))
        score(t)     = max over h of steady_h(t)

    A steady drift keeps its full D; after a cut, one half of the way is still, and nothing is left but four times
    its noise. Marks all that the fixed threshold marks (steady_1 is its score), and fades, dissolves, slow changes of
    light and slow motion as soon as they have become as different as a cut, for as long as they last. Blind to drift
    that takes longer than the window to become different, and to purely spatial change. Does not tell a pan from a
    fade.

    Source: the accumulation of small deviations until they count (Page's CUSUM, Biometrika 1954) with doubling
    distances in place of one sum, because cosine differences of single steps do not add up. The rule is this project's
    own.

    Attributes:
        threshold: τ_diff, a cosine similarity in [−1, 1]; the paper's 0.2.
        window: longest distance in frames, ≥ 1; distances double from 1 up to it, each costs one pass over the
            features. 1 is the fixed threshold.
    """

    window: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("difference window", self.window, at_least=1, integer=True)

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32, the largest steady difference over the distances within the window; 0 without any past.

        Where a token between is missing, nothing is known of its part of the way, and the rest decides.
        """
        score = graph.norm.new_zeros(graph.num_nodes).float()
        unknown = limit = torch.full_like(score, math.inf)
        distance = 1
        while distance <= self.window:
            earlier, later, drop = lagged_difference(graph, distance)
            steady = torch.minimum(drop, limit[later])
            score[later] = torch.maximum(score[later], steady)
            before = unknown.index_copy(0, later, drop)[earlier]
            limit = 4 * unknown.index_copy(0, later, torch.minimum(steady, before))
            distance *= 2
        return score
