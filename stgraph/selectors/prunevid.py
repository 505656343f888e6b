"""PruneVid: scenes, still positions merged along time, and clusters of what is left."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import check_number
from .parts import bisect
from .per_video import Choice, Clip, VideoSelector
from .selection import Blend
from .similarity import density_peaks, fine, pair_cosines, unit64

FEW = 14
"""Tokens up to which a group is left as it is."""

NEAREST = 7
"""k of DPC-kNN."""


@dataclass(frozen=True, kw_only=True)
class PruneVid(VideoSelector):
    """PruneVid (Huang et al., ACL 2025, arXiv 2412.16117), its part before the LLM.

    Followed: frames are clustered by density peaks of their means; of each cluster only the longest run of consecutive
    frames stays, and frames without one join the longer neighbour, which gives windows. A position of a window whose
    mean cosine between different frames exceeds τ is still and becomes its mean. The still positions of a window, and
    the other tokens of each frame, are clustered by density peaks where they are more than 14, and each cluster becomes
    its plain mean. ``count="published"``: int(count·``clusters``) clusters.

    Departures: density peaks have no random part. A row stands at the centre of its cluster, still ones in the window's
    first frame; theirs keep no place. The stage inside the LLM is left out. ``count="exact"``: the share of clusters is
    bisected; then the clusters of the fewest tokens go, or the tokens least like their centre stay beside it.

    Attributes:
        similarity_threshold: τ in [−1, 1].
        scenes: clusters of frames, in shares of their number, in (0, 1].
        clusters: clusters of a group, in shares of its size, in (0, 1].
    """

    similarity_threshold: float = 0.8
    scenes: float = 0.25
    clusters: float = 0.5

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)
        check_number("scenes", self.scenes, above=0, at_most=1)
        check_number("clusters", self.clusters, above=0, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """Tokens of each cluster; for the others 1 − cosine to their centre, less 2."""
        groups = self._groups(clip)

        def count_at(share: float) -> int:
            return sum(_clusters(len(group), share) for group in groups)

        share = bisect(count_at, 0, 1, clip.budget, steps=30) if self.exact else self.clusters
        head = torch.arange(len(clip), device=clip.coords.device)
        blends = [Blend.empty(head.device)]
        for group in groups:
            count = _clusters(len(group), share)
            centre, member = torch.arange(len(group), device=head.device), torch.arange(len(group), device=head.device)
            if count < len(group):
                mean = torch.stack([clip.features[rows].double() for rows in group.T]).mean(0)
                centre, member = density_peaks(mean, NEAREST).clusters(count)
            place = group[centre[member], 0]
            weight = 1 / (torch.bincount(member)[member] * group.shape[1]).double()
            head[group] = place[:, None]
            into, factor = place[:, None].expand_as(group), weight[:, None].expand_as(group)
            blends.append(Blend(into.flatten(), group.flatten(), factor.flatten().to(torch.float32)))
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=head.device)
        chosen[head] = True
        size = torch.bincount(head, minlength=len(clip)).double()
        unlike = torch.cat([-1 - pair_cosines(clip.features[f], clip.features[head[f]]) for f in clip.frames])
        return Choice(torch.where(chosen, size, unlike), chosen, blend=Blend.cat(blends))

    def _groups(self, clip: Clip) -> list[Tensor]:
        """What is clustered together: (g, w) int64 tokens, a row for each position that becomes one."""
        table, groups = clip.by_position(), []
        for window in self._windows(clip):
            rows = table[window]
            everywhere = (rows >= 0).all(0).nonzero()[:, 0]
            still = everywhere[:0]
            if len(window) > 1 and len(everywhere):
                total = torch.stack([unit64(clip.features[r]) for r in rows[:, everywhere]]).sum(0)
                mean = fine((total.square().sum(1) - len(window)) / (len(window) * (len(window) - 1)))
                still = everywhere[mean > self.similarity_threshold]
            moving = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device)
            moving[still] = False
            found = [rows[:, still].T, *(row[moving & (row >= 0)][:, None] for row in rows)]
            groups += [group for group in found if len(group)]
        return groups

    def _windows(self, clip: Clip) -> list[list[int]]:
        """The frames of each window."""
        count = max(1, int(len(clip.frames) * self.scenes))
        _, member = density_peaks(clip.frame_means(), NEAREST).clusters(count)
        runs = [(label, len(list(run))) for label, run in groupby(member.tolist())]
        longest = {label: max(length for own, length in runs if own == label) for label, _ in runs}
        labels: list[int | None] = []
        for label, length in runs:
            stays = length == longest[label] and length > 1
            labels += [label if stays else None] * length
        begin = 0
        while begin < len(labels):
            end = begin
            while end < len(labels) and labels[end] is None:
                end += 1
            if end > begin:
                before, after = _run(labels, begin - 1, -1), _run(labels, end, 1)
                joined = labels[begin - 1] if before and before >= after else labels[end] if after else 0
                labels[begin:end] = [joined] * (end - begin)
            begin = max(end, begin + 1)
        numbers = iter(range(len(labels)))
        return [[next(numbers) for _ in run] for _, run in groupby(labels)]


def _clusters(size: int, share: float) -> int:
    return size if size <= FEW else max(1, int(size * share))


def _run(labels: list[int | None], start: int, step: int) -> int:
    """Frames of one label from ``start`` on in one direction; 0 beyond the ends."""
    length = 0
    while (
        0 <= start < len(labels) and labels[start] is not None and (not length or labels[start] == labels[start - step])
    ):
        length, start = length + 1, start + step
    return length
