"""HoliTom: windows in which positions stand still are merged along time, the rest is pruned by attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..errors import check_number
from .parts import bisect, first
from .per_video import AttentionSelector, Choice, Clip
from .selection import Blend
from .similarity import density_peaks


class Window(NamedTuple):
    """Frames that are compressed together.

    Attributes:
        frames: numbers of the frames, ascending.
        static: (s, w) int64 tokens of the positions that stand still, a row each.
    """

    frames: list[int]
    static: Tensor


@dataclass(frozen=True, kw_only=True)
class HoliTom(AttentionSelector):
    """HoliTom (Shao et al., NeurIPS 2025, arXiv 2505.21334), its part before the LLM.

    Followed: a position stands still between two frames if its cosine exceeds τ. Windows of frames are chosen by a
    dynamic programme that removes as many tokens as can be by merging positions that stand still throughout a window;
    what is left must give a share r′ of itself so that r of all stays. Other tokens are pruned frame by frame, the most
    attended stay; still positions become their mean, and are clustered by density peaks: a centre becomes
    ``anchor_weight`` of itself and the rest of the mean of what goes to it. ``count="published"``: ⌈n·r′⌉ of a frame
    and round(n·r′) of a window's still positions.

    Departures: density peaks have no random part. A still row stands at its position in the window's first frame, which
    is where theirs sorts it for LLaVA-Video. The stage inside the LLM is left out. ``count="exact"``: r′ is bisected,
    then the most attended tokens fill up, or the least attended rows go.

    Attributes:
        similarity_threshold: τ in [−1, 1]; 0.8, and 0.65 in their scripts for r = 0.1.
        anchor_weight: β in [0, 1].
        longest_window: in frames.
    """

    similarity_threshold: float = 0.8
    anchor_weight: float = 0.6
    longest_window: int = 1024

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)
        check_number("anchor_weight", self.anchor_weight, at_least=0, at_most=1)
        check_number("longest_window", self.longest_window, at_least=1, integer=True)

    def choose(self, clip: Clip) -> Choice:
        """The attention; the rows of all windows."""
        attention = clip.attention(self.signal)
        windows, removed = self.windows(clip)
        share = min(1.0, clip.retention / ((len(clip) - removed) / len(clip)))
        still = torch.zeros(len(clip), dtype=torch.bool, device=attention.device)
        for window in windows:
            still[window.static] = True
        moving = [int((~still[frame]).sum()) for frame in clip.frames]

        def count_at(share: float) -> int:
            return sum(math.ceil(n * share) for n in moving) + sum(round(len(w.static) * share) for w in windows)

        if self.exact:
            share = bisect(count_at, 0, 1, clip.budget, steps=30)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=attention.device)
        for frame, count in zip(clip.frames, moving, strict=True):
            ranked = attention[frame].masked_fill(still[frame], -torch.inf)
            chosen[frame] = first(ranked, math.ceil(count * share))
        blends = [Blend.empty(attention.device)]
        for window in windows:
            if count := round(len(window.static) * share):
                blends.append(self._clustered(clip, window.static, count))
        blend = Blend.cat(blends)
        chosen[blend.into] = True
        return Choice(attention, chosen, blend=blend)

    def windows(self, clip: Clip) -> tuple[list[Window], int]:
        """The windows in order of time, and how many tokens merging along them removes."""
        table = clip.by_position()
        still = clip.stillness(table) > self.similarity_threshold
        best = [0]  # tokens removed from the frames before each
        lengths: list[int] = []
        run = torch.zeros(table.shape[1], dtype=torch.int64, device=table.device)
        for last in range(len(table)):
            if last:
                run = torch.where(still[last - 1], run + 1, 0)
            counts = torch.bincount(run, minlength=last + 2).flip(0).cumsum(0).flip(0).tolist()
            value, length = best[last], 1
            for width in range(2, min(last + 1, self.longest_window) + 1):
                gain = best[last + 1 - width] + counts[width - 1] * (width - 1)
                if gain > value:
                    value, length = gain, width
            best.append(value)
            lengths.append(length)
        windows, stop = [], len(table)
        while stop:
            begin = stop - lengths[stop - 1]
            stands = still[begin : stop - 1].all(0) if stop - begin > 1 else torch.zeros_like(still[:1].any(0))
            windows.append(Window(list(range(begin, stop)), table[begin:stop, stands].T))
            stop = begin
        return windows[::-1], best[-1]

    def _clustered(self, clip: Clip, static: Tensor, count: int) -> Blend:
        """What ``count`` clusters of still positions become."""
        length = static.shape[1]
        mean = torch.stack([clip.features[rows].double() for rows in static.T]).mean(0)
        centre, member = density_peaks(mean, min(7, count)).clusters(count)
        others = torch.bincount(member, minlength=len(centre)) - 1
        own = torch.zeros(len(static), dtype=torch.bool, device=static.device)
        own[centre] = True
        anchor = torch.ones_like(others, dtype=torch.float64).masked_fill(others > 0, self.anchor_weight)[member]
        weight = torch.where(own, anchor, (1 - anchor) / others.clamp(min=1)[member]) / length
        head = static[centre[member], 0]
        return Blend(
            head[:, None].expand_as(static).flatten(),
            static.flatten(),
            weight[:, None].expand_as(static).flatten().to(torch.float32),
        )
