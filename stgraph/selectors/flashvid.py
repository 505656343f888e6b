"""FlashVID: attended and diverse tokens, and trees through time of the others, merged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import check_choice, check_number
from .parts import first, shares
from .per_video import AttentionSelector, Choice, Clip
from .selection import Blend
from .similarity import DensityPeaks, cosines, density_peaks, fine_digits, pair_cosines

Picking = Literal["attention_diversity", "attention_diversity_event"]
"""How the first part is picked; the second also weighs tokens by their likeness to the segment's frames."""


@dataclass(frozen=True, kw_only=True)
class FlashVID(AttentionSelector):
    """FlashVID (2026, github.com/Fanziyang-v/FlashVID): a part is picked, and the rest merged in trees.

    Followed, for every segment of similar frames: of the B tokens of a frame ⌈α·B⌉ are picked one after the other,
    that with the largest smallest product of distance to the picked ones, attention and (in v2) mean product with the
    segment's frame means. Every other token joins its most similar one of the frame before where their cosine is above
    a threshold, which rises where fewer than the budget would be left. A tree becomes its sum divided by 1 + the number
    of tokens that joined its root directly. Where more roots are left than the budget has room for, each frame's are
    clustered by density peaks, and each cluster becomes a plain mean. ``count="published"``: B = ⌈n·r·expansion⌉.

    Departures: density peaks have no random part, see :func:`~stgraph.selectors.similarity.density_peaks`. No token is
    picked twice. A segment of one frame clusters all its tokens, picked ones too, as theirs does; where a centre is a
    picked token, whose place theirs gives out twice, the mean stands at the nearest free one. What prunes again
    inside the LLM (at layer 20 of LLaVA) is another method, see ``sequence``. ``count="exact"``: no expansion, for that
    pruning is what makes up for it; B and the clusters of a frame are shared out so that their sums are the budget.

    Attributes:
        picked: α, share of a frame's tokens that are picked, in [0, 1].
        picking: ``"attention_diversity_event"`` (v2, LLaVA) or ``"attention_diversity"`` (v1, Qwen).
        similarity_threshold: cosine that a token must exceed to join, in [−1, 1].
        segment_threshold: similarity of adjacent frames below which a segment ends, in [−1, 1].
        least_segments: where there are as many frames; 8 for LLaVA, 4 for Qwen.
        expansion: of the budget of the part before the LLM, for ``count="published"``.
    """

    picked: float = 0.7
    picking: Picking = "attention_diversity_event"
    similarity_threshold: float = 0.8
    segment_threshold: float = 0.9
    least_segments: int = 8
    expansion: float = 1.25

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("picked", self.picked, at_least=0, at_most=1)
        check_choice("picking", self.picking, ("attention_diversity", "attention_diversity_event"))
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)
        check_number("segment_threshold", self.segment_threshold, at_least=-1, at_most=1)
        check_number("least_segments", self.least_segments, at_least=1, integer=True)
        check_number("expansion", self.expansion, above=0)

    def choose(self, clip: Clip) -> Choice:
        """The attention; segment by segment, what is picked, and what trees and clusters become."""
        attention = clip.attention(self.signal)
        if self.exact:
            budgets = shares(clip.retention, clip.sizes)
        else:
            budgets = [min(n, math.ceil(n * clip.retention * self.expansion)) for n in clip.sizes]
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=clip.coords.device)
        blends = []
        begin = 0
        for length in self._segments(clip):
            frames, budget = clip.frames[begin : begin + length], budgets[begin : begin + length]
            begin += length
            picked = self._picked(clip, attention, frames, budget)
            chosen |= picked
            merged = self._merged(clip, frames, budget, picked)
            chosen[merged.into] = True
            blends.append(merged)
        return Choice(attention, chosen, blend=Blend.cat(blends))

    def _segments(self, clip: Clip) -> list[int]:
        """Frames of each segment."""
        mean = clip.frame_means()
        similarity = pair_cosines(mean[:-1], mean[1:])
        cut = similarity < self.segment_threshold
        missing = min(self.least_segments - 1 - int(cut.sum()), len(cut))
        if missing > 0:
            cut |= first(-similarity.masked_fill(cut, 1.0), missing)
        ends = [*(cut.nonzero()[:, 0] + 1).tolist(), len(clip.frames)]
        return [stop - start for start, stop in pairwise([0, *ends])]

    # -- what is picked ------------------------------------------------------------------------------------------------

    def _picked(self, clip: Clip, attention: Tensor, frames: list[slice], budgets: list[int]) -> Tensor:
        """(n,) bool, the tokens of a segment that are picked."""
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=attention.device)
        means = torch.stack([clip.features[frame].double().mean(0) for frame in frames])
        for frame, budget in zip(frames, budgets, strict=True):
            x = clip.features[frame]
            weight = attention[frame].double()
            if self.picking == "attention_diversity_event":
                weight = weight * (x.double() @ means.T).mean(1)
            worth = fine_digits((1 - cosines(x, x)) * weight)  # of column i to row j
            chosen[frame.start + _farthest_first(worth, self._picks(budget))] = True
        return chosen

    def _picks(self, budget: int) -> int:
        return math.ceil(budget * self.picked)

    # -- what is merged ------------------------------------------------------------------------------------------------

    def _merged(self, clip: Clip, frames: list[slice], budgets: list[int], picked: Tensor) -> Blend:
        """What the tokens of a segment that are not picked become."""
        places = [budget - self._picks(budget) for budget in budgets]
        none = picked.nonzero()[:0, 0]
        if not sum(places):
            return Blend(none, none, none.to(torch.float32))
        if len(frames) == 1:
            rows = torch.arange(frames[0].start, frames[0].stop, device=picked.device)
            forest = Forest(rows, rows, torch.ones(len(rows), dtype=torch.float32, device=picked.device))
        else:
            forest = self._forest(clip, frames, sum(budgets), picked)
        roots = [
            forest.root[(forest.token == forest.root) & (forest.root >= f.start) & (forest.root < f.stop)]
            for f in frames
        ]
        left = sum(map(len, roots))
        share = sum(places) / left if left else 1.0
        if share >= 1:
            return Blend(forest.root, forest.token, forest.weight)
        counts = [math.ceil(len(own) * share) for own in roots]
        if self.exact:
            ends = torch.tensor([0, *map(len, roots)]).cumsum(0).tolist()
            totals = [-(-end * sum(places) // left) for end in ends]
            counts = [b - a for a, b in pairwise(totals)]
        blends = [
            _clustered(clip, forest, own, count, picked) for own, count in zip(roots, counts, strict=True) if count
        ]
        return Blend.cat(blends)

    def _forest(self, clip: Clip, frames: list[slice], budget: int, picked: Tensor) -> Forest:
        """The trees of the tokens that are not picked."""
        start, stop = frames[0].start, frames[-1].stop
        place = torch.arange(start, stop, device=picked.device)
        value = torch.full((stop - start,), -1.0, dtype=torch.float64, device=picked.device)
        for before, now in pairwise(frames):
            similar = cosines(clip.features[now], clip.features[before])
            similar[picked[now]] = -1
            similar[:, picked[before]] = -1
            best, where = similar.max(1)
            value[now.start - start : now.stop - start] = best
            place[now.start - start : now.stop - start] = where + before.start
        joins = value > self.similarity_threshold
        go = len(value) - budget
        if int(joins.sum()) > go:
            threshold = max(float(value.sort(descending=True).values[go - 1]) if go else 1.0, -1 + 1e-6)
            joins = value > threshold
        parent = torch.where(joins, place, torch.arange(start, stop, device=place.device))
        root = parent.clone()
        while not torch.equal(above := root[root - start], root):
            root = above
        direct = torch.bincount(parent[joins] - start, minlength=len(parent))
        free = ~picked[start:stop]
        token = torch.arange(start, stop, device=place.device)
        weight = 1 / (1 + direct[root - start]).double()
        return Forest(token[free], root[free], weight[free].to(torch.float32))


class Forest(NamedTuple):
    """Tokens in trees.

    Attributes:
        token: (m,) int64.
        root: (m,) int64 of the tree of each.
        weight: (m,) float32 factor of each in the sum that its root becomes.
    """

    token: Tensor
    root: Tensor
    weight: Tensor


def _farthest_first(worth: Tensor, count: int) -> Tensor:
    """``count`` columns of (n, n): first the one with the largest second smallest entry, then again and again the one
    whose smallest entry in the rows of those before is largest. (count,) int64.
    """
    n = len(worth)
    if not count:
        return torch.empty(0, dtype=torch.int64, device=worth.device)
    second = worth.kthvalue(min(2, n), dim=0).values
    pick = int(second.argmax())
    picks = [pick]
    least = worth[pick].clone()
    least[pick] = -torch.inf
    while len(picks) < count:
        pick = int(least.argmax())
        picks.append(pick)
        least = torch.minimum(least, worth[pick])
        least[pick] = -torch.inf
    return torch.tensor(picks, device=worth.device)


def _clustered(clip: Clip, forest: Forest, roots: Tensor, count: int, picked: Tensor) -> Blend:
    """What ``count`` clusters of the trees with these roots, all of one frame, become."""
    trees = Blend(forest.root, forest.token, forest.weight)
    own = torch.isin(trees.into, roots)
    trees = Blend(trees.into[own], trees.source[own], trees.weight[own])
    merged = trees.sums(roots, clip.features.double()) if len(trees.into) > len(roots) else clip.features[roots]
    peaks = density_peaks(merged, min(count, 7))
    centre, member = peaks.clusters(count)
    size = torch.bincount(member, minlength=len(centre))
    place = _free_places(peaks, centre, member, picked[roots])
    into = roots[place[member[torch.searchsorted(roots, trees.into)]]]
    share = trees.weight / size[member[torch.searchsorted(roots, trees.into)]].to(torch.float32)
    return Blend(into, trees.source, share)


def _free_places(peaks: DensityPeaks, centre: Tensor, member: Tensor, taken: Tensor) -> Tensor:
    """(m,) int64 where the mean of each cluster stands: at its centre, or where this is taken at the nearest free
    member of the cluster, or at the nearest free token of all where it has none.
    """
    place, taken = centre.clone(), taken.clone()
    doubled = taken[centre].nonzero()[:, 0].tolist()
    taken[centre] = True
    for number in doubled:
        away = torch.where(member == number, 0.0, 1.0) * (1 + peaks.squared.amax()) + peaks.squared[centre[number]]
        place[number] = away.masked_fill(taken, torch.inf).argmin()
        taken[place[number]] = True
    return place
