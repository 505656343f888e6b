"""Percentile: the paper's dynamic threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .base import DifferenceDetector, has_past


@dataclass(frozen=True)
class Percentile(DifferenceDetector):
    """The tokens that differ most from their predecessor: 1 − w above a percentile of the scores of the video.

    The paper's dynamic τ_diff (design 3). Marks a fixed share of the tokens that have a past, however still the video
    is; none where all scores are equal.

    Attributes:
        percentile: in [0, 100], linearly interpolated; the paper's 95.
    """

    percentile: float = 95.0

    def __post_init__(self) -> None:
        check_number("difference percentile", self.percentile, at_least=0, at_most=100)

    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """The percentile of the scores of tokens that have a past; 0 where none has."""
        scores = score[has_past(graph)].cpu().double().numpy()
        return float(np.percentile(scores, self.percentile)) if len(scores) else 0.0
