"""Frame-relative difference: change beyond that of the whole frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .base import DifferenceDetector, has_past, temporal_difference


@dataclass(frozen=True)
class FrameRelative(DifferenceDetector):
    """Tokens that change more than the median token of their frame: what happens in a scene, not to it.

    Sees local change (an object that enters or moves, new texture), also while the camera pans or the light flickers.
    Blind to whatever changes at least half of the frame: cuts, global flashes and fades.

    Source: the median as a robust estimate of the dominant, global change, common in video change detection.

    Attributes:
        excess: difference 1 − cosine above the frame's median from which on a token is marked (strictly above), in [0,
            2].
    """

    excess: float = 0.4

    def __post_init__(self) -> None:
        check_number("difference excess", self.excess, at_least=0, at_most=2)

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32, 1 − w of the temporal edge less the median of its frame, at least 0."""
        score = temporal_difference(graph)
        past = has_past(graph).nonzero()[:, 0]
        frame = graph.coords[past, 0]
        median = _medians(score[past], frame)[frame]
        score[past] = (score[past] - median).clamp_(min=0)
        return score

    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """The excess: the same for every video."""
        return self.excess


def _medians(values: Tensor, group: Tensor) -> Tensor:
    """Median of the values of each group, the mean of the middle two where they are even: (groups,)."""
    order = torch.sort(values, stable=True).indices
    ordered = values[order[torch.sort(group[order], stable=True).indices]]
    size = torch.bincount(group)
    first = size.cumsum(0) - size
    # Groups without a value hold any number, because nothing reads it.
    lower, upper = ((first + half).clamp_(0, max(len(values) - 1, 0)) for half in ((size - 1) // 2, size // 2))
    return (ordered[lower] + ordered[upper]) / 2
