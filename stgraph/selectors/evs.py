"""EVS: the tokens that differ from the previous frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .per_video import Choice, Clip, VideoSelector, previous_matches


@dataclass(frozen=True, kw_only=True)
class EVSSelector(VideoSelector):
    """Efficient Video Sampling (NVIDIA, 2025), as vLLM and SGLang run it: the difference path alone.

    Followed: score = 1 − cosine with the token at the same position of the previous frame; the first frame comes first,
    whole; then the largest scores of the video, ties to the earlier token.

    Departures: exactly ⌈r·N⌉ tokens, where the servers keep ⌊r·N⌋ but never fewer than a frame has; so with r below
    one frame's share not all of the first frame stays. A token whose predecessor is missing counts as new.
    """

    def choose(self, clip: Clip) -> Choice:
        """1 − cosine, 3 where there is no predecessor, 4 in the first frame."""
        match, cosine = previous_matches(clip, radius=0)
        score = torch.where(match >= 0, 1 - cosine, 3.0)
        score[clip.frames[0]] = 4
        return Choice(score)
