"""No difference detector: the event path left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..graph import SpatioTemporalGraph
from .base import DifferenceDetector


@dataclass(frozen=True)
class NoDifference(DifferenceDetector):
    """Scores tokens as the paper does but marks none: its ablation rows without the difference module."""

    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """Infinity: no score is above it."""
        return math.inf
