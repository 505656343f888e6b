"""FastVID: salient and density-peak tokens in segments of similar frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import check_number
from .parts import first, shares
from .per_video import AttentionSelector, Choice, Clip
from .selection import Blend
from .similarity import cosines, density_peaks, pair_cosines


@dataclass(frozen=True, kw_only=True)
class FastVID(AttentionSelector):
    """FastVID (Shen et al., NeurIPS 2025, arXiv 2503.11187): segments keep the attended tokens and merge the rest.

    Followed: cuts lie at the ``least_segments`` − 1 smallest similarities of adjacent frames and wherever one is below
    the threshold. Of the R tokens that a segment keeps, a ``context`` share are density peaks of every fourth frame,
    counted from its last, the others the most attended of each frame. All tokens of the segment that are neither
    salient nor context of that frame go to the most similar context token of each frame that has some: w·x + (1 −
    w)·mean, w the larger of ``anchor_weight`` and 1 / (their number + 1). ``count="published"``: int(n·r) a frame.

    Departures: a frame is represented by the mean of its tokens, where theirs takes the pooled output of SigLIP's
    head. Fewer than 8 frames are cut as often as they can be. Newline tokens follow ``separators``, where theirs keeps
    those of every row that keeps a token. ``count="exact"``: R is shared out evenly over the segments.

    Attributes:
        least_segments: c, where there are as many frames.
        segment_threshold: τ, similarity of adjacent frames below which a segment ends, in [−1, 1].
        context: d, share of the kept tokens that are density peaks, in [0, 1].
        every: p, in how many frames one has context.
        anchor_weight: β, least weight of a context token in its sum, in [0, 1].
    """

    least_segments: int = 8
    segment_threshold: float = 0.9
    context: float = 0.4
    every: int = 4
    anchor_weight: float = 0.6

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("least_segments", self.least_segments, at_least=1, integer=True)
        check_number("segment_threshold", self.segment_threshold, at_least=-1, at_most=1)
        check_number("context", self.context, at_least=0, at_most=1)
        check_number("every", self.every, at_least=1, integer=True)
        check_number("anchor_weight", self.anchor_weight, at_least=0, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """The attention; segment by segment, the salient and the context tokens."""
        attention = clip.attention(self.signal)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=clip.coords.device)
        blends = []
        segments = self._segments(clip)
        sizes = [sum(frame.stop - frame.start for frame in segment) for segment in segments]
        if self.exact:
            totals = shares(clip.retention, sizes)
        else:
            totals = [sum(int((f.stop - f.start) * clip.retention) for f in segment) for segment in segments]
        for segment, total in zip(segments, totals, strict=True):
            kept, merged = self._segment(clip, attention, segment, total)
            chosen[kept] = True
            blends += merged
        return Choice(attention, chosen, blend=Blend.cat(blends) if blends else None)

    def _segments(self, clip: Clip) -> list[list[slice]]:
        """The frames of each segment."""
        mean = clip.frame_means()
        similarity = pair_cosines(mean[:-1], mean[1:])
        ends = similarity < self.segment_threshold
        ends |= first(-similarity, min(self.least_segments - 1, len(similarity)))
        segments: list[list[slice]] = [[]]
        for frame, cut in zip(clip.frames, [*ends.tolist(), False], strict=True):
            segments[-1].append(frame)
            if cut:
                segments.append([])
        return segments

    def _segment(self, clip: Clip, attention: Tensor, segment: list[slice], total: int) -> tuple[Tensor, list[Blend]]:
        """The tokens that a segment keeps, and what its context tokens become."""
        length = len(segment)
        context = int(total * self.context)
        salient = total - context
        parts = -(-length // self.every)
        contexts = [0] * length
        for part in range(parts):
            contexts[length - 1 - part * self.every] = context // parts + (part < context % parts)
        rows = torch.arange(segment[0].start, segment[-1].stop, device=clip.coords.device)
        is_salient = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        peaks: list[Tensor] = []
        for number, (frame, count) in enumerate(zip(segment, contexts, strict=True)):
            own = slice(frame.start - segment[0].start, frame.stop - segment[0].start)
            is_salient[own] = first(attention[frame], salient // length + (number < salient % length))
            rest = (~is_salient[own]).nonzero()[:, 0] + own.start
            found = density_peaks(clip.features[rows[rest]], self.every).order[:count] if count else rest[:0]
            peaks.append(rest[found].sort().values)
        blends = []
        for peak in peaks:
            if len(peak):
                free = ~is_salient
                free[peak] = False
                blends += self._merge(clip, rows[peak], rows[free.nonzero()[:, 0]])
        return torch.cat([rows[is_salient], *(rows[peak] for peak in peaks)]), blends

    def _merge(self, clip: Clip, peak: Tensor, others: Tensor) -> list[Blend]:
        """What context tokens become when others go to the most similar of them."""
        if not len(others):
            return []
        to = cosines(clip.features[others], clip.features[peak]).argmax(1)
        taken = torch.bincount(to, minlength=len(peak))
        weight = (1 / (taken + 1).double()).clamp(min=self.anchor_weight)
        some = (taken > 0).nonzero()[:, 0]
        spread = ((1 - weight) / taken.clamp(min=1))[to]
        return [
            Blend(peak[some], peak[some], weight[some].to(torch.float32)),
            Blend(peak[to], others, spread.to(torch.float32)),
        ]
