"""EVS: the tokens that differ from the previous frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .parts import first
from .per_video import Choice, Clip, VideoSelector, predecessors


@dataclass(frozen=True, kw_only=True)
class EVSSelector(VideoSelector):
    """Efficient Video Sampling (NVIDIA, 2025), as vLLM and SGLang run it: the difference path alone.

    Followed: score = 1 − cosine with the token at the same position of the previous frame; the first frame comes first,
    whole; then the largest scores of the video, ties to the earlier token.

    ``count="published"``: max(tokens of a frame, ⌊N·r⌋), as the servers do.

    Departures: ``count="exact"``: with r below one frame's share not all of the first frame stays. A token whose
    predecessor is missing counts as new.
    """

    def choose(self, clip: Clip) -> Choice:
        """1 − cosine, 3 where there is no predecessor, 4 in the first frame."""
        match, cosine = predecessors(clip, adjacent=True)
        score = torch.where(match >= 0, 1 - cosine, 3.0)
        score[clip.frames[0]] = 4
        if self.exact:
            return Choice(score)
        # Theirs takes the share that goes, as a decimal number.
        count = max(clip.sizes[0], int(len(clip) * (1 - float(f"{1 - clip.retention:.12g}"))))
        return Choice(score, first(score, count))
