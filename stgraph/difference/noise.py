"""Noise: a threshold that follows the noise of the video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .base import DifferenceDetector, has_past


@dataclass(frozen=True)
class Noise(DifferenceDetector):
    """Tokens that differ from their predecessor by more than noise: τ_diff from the noise of the video.

    Tokens without any event still differ a little from frame to frame: sensor noise, compression, breathing leaves.
    Those scores form the lowest peak of the video's histogram. Its place is the half-sample mode; its width is taken
    from the left side alone, mirrored, because events lie to the right. The threshold is the peak plus ``sigmas``
    widths. Sees all change that stands out of the noise, also where most of the video changes, as long as its stillest
    tokens are still. Blind to change slower than the noise of one frame, and in a video that never rests.

    Source: half-sample mode, Bickel and Frühwirth (Computational Statistics & Data Analysis, 2006).

    Attributes:
        sigmas: widths above the peak, ≥ 0.
        floor: least difference 1 − cosine that can be an event, in [0, 2], for frames that repeat without any noise.
    """

    sigmas: float = 6.0
    floor: float = 0.05

    def __post_init__(self) -> None:
        check_number("difference sigmas", self.sigmas, at_least=0)
        check_number("difference floor", self.floor, at_least=0, at_most=2)

    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """Peak + sigmas · width of the scores of tokens that have a past, at least the floor."""
        scores = np.sort(score[has_past(graph)].cpu().double().numpy())
        if not len(scores):
            return self.floor
        peak = half_sample_mode(scores)
        below = peak - scores[scores <= peak]
        return max(self.floor, peak + self.sigmas * 1.4826 * float(np.median(below)))


def half_sample_mode(ordered: np.ndarray) -> float:
    """Where n ≥ 1 ascending values are densest: the densest half of the densest half and so on, the lowest of ties."""
    while len(ordered) > 2:
        half = (len(ordered) + 1) // 2
        start = int((ordered[half - 1 :] - ordered[: len(ordered) - half + 1]).argmin())
        ordered = ordered[start : start + half]
    return float(ordered.mean())
