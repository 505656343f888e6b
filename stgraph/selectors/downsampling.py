"""Plain downsampling: fewer frames, smaller frames, and both. What every method must beat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from .parts import means_of, shares
from .per_video import Choice, Clip, VideoSelector
from .selection import Blend


@dataclass(frozen=True, kw_only=True)
class FewerFrames(VideoSelector):
    """All tokens of evenly spaced frames; what is left of the budget is an even stride of one frame more.

    ``count="published"`` is the same, for nothing of it is published.
    """

    def choose(self, clip: Clip) -> Choice:
        """1 for the chosen frames."""
        return Choice(score := _frames(clip, clip.budget).double(), score > 0)


@dataclass(frozen=True, kw_only=True)
class PooledFrames(VideoSelector):
    """Every frame average-pooled to a grid of as many cells as its share of the budget.

    A frame of c cells has about as many rows of them as its shape asks for; rows share the cells out evenly, so that
    there are exactly c. A cell is the plain mean of its tokens, and stands at the one nearest its middle.
    ``count="published"`` is the same, for nothing of it is published.
    """

    merging: ClassVar[bool] = True

    def choose(self, clip: Clip) -> Choice:
        """1 for the middle of every cell."""
        return _pooled(clip, clip.frames, shares(clip.retention, clip.sizes))


@dataclass(frozen=True, kw_only=True)
class FewerPooledFrames(VideoSelector):
    """Both: about √r of the frames, evenly spaced, each pooled to its share of the budget.

    See :class:`FewerFrames` and :class:`PooledFrames`.
    """

    merging: ClassVar[bool] = True

    def choose(self, clip: Clip) -> Choice:
        """1 for the middle of every cell."""
        total = len(clip.frames)
        count = min(total, max(1, round(total * clip.retention**0.5)))
        frames = [clip.frames[(2 * k + 1) * total // (2 * count)] for k in range(count)]
        sizes = [frame.stop - frame.start for frame in frames]
        ends = [sum(sizes[:number]) for number in range(count + 1)]
        cells = [-(-end * clip.budget // ends[-1]) for end in ends]
        return _pooled(clip, frames, [b - a for a, b in pairwise(cells)])


def _frames(clip: Clip, budget: int) -> Tensor:
    """(n,) bool, ``budget`` tokens of evenly spaced frames."""
    chosen = torch.zeros(len(clip), dtype=torch.bool, device=clip.coords.device)
    total = len(clip.frames)
    count = min(total, max(1, -(-budget * total // len(clip))))
    left = budget
    picks = list(dict.fromkeys((2 * k + 1) * total // (2 * count) for k in range(count)))
    for number in [*picks, *(n for n in range(total) if n not in picks)]:
        frame = clip.frames[number]
        size = frame.stop - frame.start
        take = min(size, left)
        if not take:
            break
        steps = torch.arange(take, device=chosen.device)
        chosen[frame.start + (2 * steps + 1) * size // (2 * take)] = True
        left -= take
    return chosen


def _pooled(clip: Clip, frames: list[slice], counts: list[int]) -> Choice:
    chosen = torch.zeros(len(clip), dtype=torch.bool, device=clip.coords.device)
    blends = [Blend.empty(chosen.device)]
    for frame, count in zip(frames, counts, strict=True):
        if count:
            cell = _cells(clip.coords[frame, 1:], count)
            place = clip.coords[frame, 1:].double()
            size = torch.bincount(cell).double()
            middle = torch.zeros(len(size), 2, dtype=torch.float64, device=place.device).index_add_(0, cell, place)
            away = (place - (middle / size[:, None])[cell]).square().sum(1)
            order = torch.sort(away, stable=True).indices
            order = order[torch.sort(cell[order], stable=True).indices]
            head = order[torch.cumsum(size, 0).long() - size.long()]
            blend = means_of(cell, head)
            blends.append(Blend(blend.into + frame.start, blend.source + frame.start, blend.weight))
            chosen[frame.start + head] = True
    return Choice(chosen.double(), chosen, blend=Blend.cat(blends))


def _cells(place: Tensor, count: int) -> Tensor:
    """(n,) int64 cell of each token of a frame, numbered without gaps; at most ``count`` of them."""
    row, column = (place - place.amin(0)).T
    height, width = int(row.max()) + 1, int(column.max()) + 1
    rows = min(height, max(1, -(-count // width), min(count, round((count * height / width) ** 0.5))))
    band = row * rows // height
    ends = [number * count // rows for number in range(rows + 1)]
    cells = torch.tensor([min(width, b - a) for a, b in pairwise(ends)], device=place.device)
    number: Tensor = (band * (width + 1) + column * cells[band] // width).unique(return_inverse=True)[1]
    return number
