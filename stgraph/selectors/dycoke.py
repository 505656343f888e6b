"""DyCoke: frames are thinned out by what repeats an earlier one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import check_number
from .parts import bisect, first
from .per_video import Choice, Clip, VideoSelector


@dataclass(frozen=True, kw_only=True)
class DyCoke(VideoSelector):
    """DyCoke (Tao et al., CVPR 2025, arXiv 2411.15024), its first stage.

    Followed: of frames 1, 3, 5, … the int((1 − k)·n) tokens least similar to the same position of the frame before
    stay; then of frames 2, 6, 10, … that come before the last two of the video, those least similar to frames 0, 4, 8,
    …. Nothing is merged. k alone decides how many stay: ``count="published"``, by which an odd last frame is lost, as
    in theirs.

    Departures: kept tokens stay in raster order, where theirs puts the least similar of a frame first. The second
    stage, which drops entries of the cache while decoding, is left out. ``count="exact"``: k is bisected; below what
    whole frames hold, these lose what is most similar to the whole frame before.

    Attributes:
        dropped: k, share of a thinned frame that goes, in [0, 1].
    """

    dropped: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("dropped", self.dropped, at_least=0, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """1 − cosine to the frame that a frame is compared with; 3 more in whole frames."""
        frames, total = clip.frames, len(clip.frames)
        thinned = {number: number - 1 for number in range(1, total, 2)}
        thinned |= {number + 2: number for number in range(0, total - 4, 4)}
        lost = {total - 1} if total % 2 else set()
        thinned = {number: before for number, before in thinned.items() if number not in lost}

        def kept(number: int, share: float) -> int:
            size = frames[number].stop - frames[number].start
            return 0 if number in lost else int(share * size) if number in thinned else size

        share = 1 - self.dropped
        if self.exact:
            share = bisect(lambda s: sum(kept(n, s) for n in range(total)), 0, 1, clip.budget, steps=30)
        table, score = clip.by_position(), torch.zeros(len(clip), dtype=torch.float64, device=clip.coords.device)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=score.device)
        whole = -1
        for number, frame in enumerate(frames):
            before = thinned.get(number, number - 1 if number in lost else whole)
            likeness = clip.likeness(table, before, number) if before >= 0 else torch.full_like(score[frame], -2.0)
            score[frame] = 1 - likeness
            chosen[frame] = first(score[frame], kept(number, share))
            if number not in thinned and number not in lost:
                score[frame] += 3
                whole = number
        return Choice(score, chosen)
