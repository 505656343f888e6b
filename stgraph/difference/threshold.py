"""Fixed threshold: the paper's difference detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_number
from ..graph.lattice import LatticeEdges
from ..graph.spatiotemporal import SpatioTemporalGraph, snap_threshold
from .base import DifferenceDetector


@dataclass(frozen=True)
class Threshold(DifferenceDetector):
    """A token whose similarity to its predecessor is strictly below τ_diff is an event (paper, design 3).

    Sees abrupt change at one position: cuts, flashes, objects that enter. Blind to gradual and to purely spatial
    change. Detectors that score another difference, but cut it off at the same fixed τ_diff, derive from this one.

    Attributes:
        threshold: τ_diff, a cosine similarity in [−1, 1]; the paper's 0.2.
    """

    threshold: float = 0.2

    def __post_init__(self) -> None:
        check_number("difference threshold", self.threshold, at_least=-1, at_most=1)

    def on_lattice(self) -> Callable[[LatticeEdges], tuple[Tensor, Tensor]]:
        """What calling it does, on whole lattices: their edges become (B, T, H, W) scores and marks."""

        def scored(edges: LatticeEdges) -> tuple[Tensor, Tensor]:
            past = torch.arange(edges.before.shape[1], device=edges.before.device)[:, None, None] > 0
            score = torch.where(past, 1 - edges.before, 0.0)
            return score, score > 1 - snap_threshold(self.threshold)

        return scored

    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """1 − τ_diff: the same for every video."""
        return 1 - snap_threshold(self.threshold)
