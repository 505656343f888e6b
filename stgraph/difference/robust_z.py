"""Robust z-score: a threshold that follows the usual change of the video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .base import DifferenceDetector, has_past


@dataclass(frozen=True)
class RobustZ(DifferenceDetector):
    """Tokens that differ from their predecessor far more than tokens of this video usually do.

    The threshold is the median of the video's difference scores plus ``z`` of their robust standard deviations, 1.4826
    times the median absolute deviation. Sees the same kind of change as the fixed threshold, but finds faint change in
    a still video and asks for more in a busy one. Blind to change that most tokens share for most of the video (a pan),
    and to gradual change.

    Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): z = 3.5, and the mean absolute deviation
    where the median one is zero because more than half of the scores are equal.

    Attributes:
        z: robust standard deviations above the median, ≥ 0.
        floor: least difference 1 − cosine that can be an event, in [0, 2], so that sensor noise is none in a still
            video.
    """

    z: float = 3.5
    floor: float = 0.05

    def __post_init__(self) -> None:
        check_number("difference z", self.z, at_least=0)
        check_number("difference floor", self.floor, at_least=0, at_most=2)

    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """Median + z · deviation of the scores of tokens that have a past, at least the floor."""
        scores = score[has_past(graph)].cpu().double().numpy()
        if not len(scores):
            return self.floor
        median = float(np.median(scores))
        away = np.abs(scores - median)
        # The factors make both deviations estimate the standard deviation of a normal distribution.
        deviation = 1.4826 * float(np.median(away)) or 1.2533 * float(away.mean())
        return max(self.floor, median + self.z * deviation)
