"""TimeChat-Online's differential token drop: what is like the frame before goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import check_number
from .per_video import Choice, Clip, VideoSelector, predecessors


@dataclass(frozen=True, kw_only=True)
class DTD(VideoSelector):
    """The differential token drop of TimeChat-Online (Yao et al., ACM MM 2025, arXiv 2504.17343), by features.

    Followed: the first frame stays whole; of every other one go the tokens whose cosine to the same position of the
    frame before, as it was, is above a threshold. The threshold alone decides how many stay: ``count="published"``.

    Departures: a token whose predecessor is missing counts as new; dropping by pixels is left out. ``count="exact"``:
    the threshold that fits, which is the order of EVS; within one similarity the earlier tokens stay.

    Attributes:
        similarity_threshold: in [−1, 1]; 0.5 in their README, 0.25 in their demonstration.
    """

    similarity_threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """1 − cosine, 3 where there is no predecessor, 4 in the first frame."""
        match, cosine = predecessors(clip, adjacent=True)
        score = torch.where(match >= 0, 1 - cosine, 3.0)
        score[clip.frames[0]] = 4
        if self.exact:
            return Choice(score)
        return Choice(score, (match < 0) | (cosine <= self.similarity_threshold))
