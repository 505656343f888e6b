"""Density peaks of segments of similar frames."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import check_number
from ..kernels import snap
from .parts import first, mean_weights, shares, unit_rows
from .per_video import Choice, Clip, VideoSelector
from .selection import blend_of


@dataclass(frozen=True, kw_only=True)
class SegmentPeaks(VideoSelector):
    """Density peaks of segments of similar frames, with everything merged into them: a variant of ours.

    It takes segments and density peaks from FastVID (Shen et al., 2025), but is not the published method: nothing is
    kept for its attention, and peaks are looked for in a segment as a whole. A cut lies where the similarity of
    adjacent frames falls below a threshold, and longer segments are split evenly, which bounds the memory to
    (``longest_segment`` · H·W)². The tokens with the largest product of density and distance to anything denser are
    anchors, in unit vectors; every other token is merged into the most similar anchor, which becomes the plain mean.

    Attributes:
        segment_threshold: similarity of adjacent frames below which a segment ends, in [−1, 1].
        longest_segment: in frames.
        nearest: neighbours that density is measured by, k of DPC-kNN.
    """

    segment_threshold: float = 0.9
    longest_segment: int = 8
    nearest: int = 5

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("segment_threshold", self.segment_threshold, at_least=-1, at_most=1)
        check_number("longest_segment", self.longest_segment, at_least=1, integer=True)
        check_number("nearest", self.nearest, at_least=1, integer=True)

    def choose(self, clip: Clip) -> Choice:
        """Segment by segment, the anchors and what they stand for."""
        score = torch.zeros(len(clip), dtype=torch.float64, device=clip.coords.device)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=clip.coords.device)
        target = torch.full((len(clip),), -1, dtype=torch.int64, device=clip.coords.device)
        segments = self._segments(clip)
        counts = shares(clip.retention, [part.stop - part.start for part in segments])
        for part, count in zip(segments, counts, strict=True):
            similarity = snap(clip.unit[part] @ clip.unit[part].T)
            score[part] = peak_score((2 - 2 * similarity).clamp(min=0).sqrt(), self.nearest)
            anchor = first(score[part], count)
            chosen[part] = anchor
            if count:
                places = anchor.nonzero()[:, 0]
                target[part] = torch.where(anchor, -1, places[similarity[:, places].argmax(1)] + part.start)
        return Choice(score, chosen, blend=blend_of(chosen, target, mean_weights(chosen, target)))

    def _segments(self, clip: Clip) -> list[slice]:
        """Rows of each segment."""
        mean = unit_rows(torch.stack([clip.unit[frame].mean(0) for frame in clip.frames]))
        alike = snap((mean[1:] * mean[:-1]).sum(1)) >= self.segment_threshold
        runs = [0]
        for number, same in enumerate(alike.tolist(), start=1):
            if not same:
                runs.append(number)
        segments = []
        for begin, end in zip(runs, [*runs[1:], len(clip.frames)], strict=True):
            pieces = -(-(end - begin) // self.longest_segment)
            edges = [begin + (end - begin) * piece // pieces for piece in range(pieces + 1)]
            segments += [slice(clip.frames[a].start, clip.frames[b - 1].stop) for a, b in pairwise(edges)]
        return segments


def peak_score(distance: Tensor, nearest: int) -> Tensor:
    """Density times distance to anything denser (DPC-kNN): (n,) float64, of an (n, n) matrix of distances.

    Density is exp(−mean squared distance to the ``nearest`` others). Of equally dense tokens the first is denser; the
    densest of all has its largest distance.
    """
    n = len(distance)
    others = distance.clone().fill_diagonal_(torch.inf)
    closest = others.topk(min(nearest, n - 1), largest=False).values if n > 1 else distance.new_zeros(1, 1)
    density = snap((-closest.square().mean(1)).exp())
    rank = torch.empty(n, dtype=torch.int64, device=distance.device)
    rank[torch.sort(density, stable=True, descending=True).indices] = torch.arange(n, device=distance.device)
    denser = rank[None] < rank[:, None]
    gap = distance.masked_fill(~denser, torch.inf).amin(1)
    return snap(density * torch.where(rank == 0, distance.amax(1), gap))
