"""EVS: the difference path as production servers run it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..budget import floor_share
from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .base import DifferenceDetector, temporal_difference

FIRST_FRAME = 3.0
"""Score of the tokens of the first frame, above any 1 − cosine."""


@dataclass(frozen=True)
class EVS(DifferenceDetector):
    """A fixed share of the tokens: the whole first frame, then those that differ most from their predecessor.

    Sees abrupt change like the paper's threshold, ranked over the whole video. Marks its share however still the video
    is, ties in favour of the earlier token, and nothing beyond it however much happens. Blind to gradual and to purely
    spatial change.

    Source: Efficient Video Sampling (NVIDIA 2025) as vLLM and SGLang run it.

    Attributes:
        share: of the tokens to mark, in [0, 1]: ⌊share · V⌋ of them, but never fewer than the first frame has.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        check_number("difference share", self.share, at_least=0, at_most=1)

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32, 1 − w of the temporal edge, 3 in the video's first frame."""
        return temporal_difference(graph).masked_fill_(_first_frame(graph), FIRST_FRAME)

    def threshold_for(self, score: Tensor, graph: SpatioTemporalGraph) -> float:
        """The largest score outside the share, which tokens in it may equal; 0 when all tokens are in it."""
        count = self._count(graph)
        return float(score.sort(descending=True).values[count]) if count < len(score) else 0.0

    def mark(self, score: Tensor, threshold: float, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) bool, the tokens of the largest scores, among equal ones the first."""
        marked = torch.zeros(len(score), dtype=torch.bool, device=score.device)
        marked[score.sort(stable=True, descending=True).indices[: self._count(graph)]] = True
        return marked

    def _count(self, graph: SpatioTemporalGraph) -> int:
        return max(int(_first_frame(graph).sum()), floor_share(self.share, graph.num_nodes))


def _first_frame(graph: SpatioTemporalGraph) -> Tensor:
    """(V,) bool, the vertices in the frame of the first one."""
    return graph.coords[:, 0] == graph.coords[:1, 0]
