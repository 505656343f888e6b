"""SparseVLM: prune by the attention of text, and recycle a part of what is pruned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..errors import check_number
from ..signals import Question
from .base import Ranking
from .fastv import FastV
from .parts import first
from .per_video import Choice, Clip
from .rounds import Lineage, Round, Rounds, Step
from .selection import Blend
from .similarity import density_peaks

STAGES = (3, 7, 16)
"""First of 32 layers that do not see what goes: the published rounds are behind layers 2, 6 and 15."""

LISTS = {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)}
"""Tokens that the three rounds keep of 576, by the number that they are on the mean over the layers."""

WHOLE = 576
"""Tokens that these lists are of."""


@dataclass(frozen=True, kw_only=True)
class SparseVLM(FastV):
    """SparseVLM (Zhang et al., ICML 2025, arXiv 2410.04417), v1: what goes is recycled into a few clusters.

    Followed, attached to a model: raters are the text tokens behind the video that its tokens are most like, by the
    softmax over the text of their products, at the entry. In three rounds, behind layers 2, 6 and 15 of 32, the visual
    tokens stay that the raters attend to most on the mean. Of the m others the int(0.3·m) + 1 most attended are
    clustered by density peaks into one tenth as many, plus one, and each cluster becomes its sum divided by its size +
    10⁻⁶; what comes of it is a visual token like any other in the next round. ``count="published"``: as many of N as
    the list of theirs whose mean is nearest to r keeps of 576, and the clusters beside them.

    Departures: ``count="exact"``: r^0.39, r^0.64 and r of the tokens are left, which are the shares of their first
    list, clusters included; where there is no room for clusters, nothing is recycled. Without text behind the video the
    last prompt token rates. Where a model has other than 32 layers, the rounds are at the same shares of them. A
    cluster stands at its centre and tokens keep their positions, where theirs puts it behind the kept tokens and
    numbers all anew. As a plain selector, which knows one attention for all layers, there is one round, and both counts
    are the same. No output of theirs was available to
    compare with.

    Attributes:
        recycled: share of the pruned tokens that are recycled, in [0, 1].
        merged: recycled tokens for each cluster.
    """

    recycled: float = 0.3
    merged: int = 10

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("recycled", self.recycled, at_least=0, at_most=1)
        check_number("merged", self.merged, at_least=1, integer=True)

    def choose(self, clip: Clip) -> Choice:
        """The attention; what is recycled, and into what."""
        attention = clip.attention(self.signal)
        made = self._recycle(clip.features, attention, clip.budget)
        stay, target = made.keep, made.target
        source = torch.cat([(target >= 0).nonzero()[:, 0], made.centre])
        into = torch.cat([target[target >= 0], made.centre])
        return Choice(attention, stay, blend=Blend(into, source, made.weight[source]))

    def _recycle(self, x: Tensor, attention: Tensor, budget: int, beside: bool = False) -> _Recycled:
        """One round on n tokens ``x`` (n, d): the most attended stay, and a part of the others comes back as clusters.

        Args:
            x: (n, d).
            attention: (n,) float64.
            budget: tokens that stay, 1 to n.
            beside: clusters are not counted in the budget.
        """
        n, device = len(x), x.device
        pool = min(int(self.recycled * (n - budget)) + 1, n - budget)
        clusters = min(int(pool / self.merged) + 1, pool)
        left = budget if beside else budget - clusters
        target, weight = torch.full((n,), -1, device=device), torch.ones(n, dtype=torch.float32, device=device)
        if not clusters or left < 1:
            return _Recycled(first(attention, budget), target, weight, target[:0])
        keep = first(attention, left)
        rows = first(attention.masked_fill(keep, -torch.inf), pool).nonzero()[:, 0]
        centre, member = density_peaks(x[rows], clusters).clusters(clusters)
        size = torch.bincount(member, minlength=len(centre)).double()
        weight[rows] = (1 / (size + 1e-6))[member].to(torch.float32)
        target[rows] = rows[centre][member]
        target[rows[centre]] = -1
        return _Recycled(keep.index_fill(0, rows[centre], True), target, weight, rows[centre])

    # -- inside a language model ---------------------------------------------------------------------------------------

    @property
    def reads_question(self) -> bool:
        """Whether it looks at the text, which it does inside a model."""
        return self.signal == "llm_attention"

    def last_round(self, layers: int) -> int:
        """The last of three, where the model has as many layers."""
        return max(min(len(STAGES), layers - 1), layers * STAGES[-1] // 32)

    def rounds(self, entry: Round, layer: int) -> Rounds:
        """Prune and recycle in three rounds."""
        tokens = entry.tokens
        visual = self.visual(tokens)
        counts = torch.bincount(tokens.batch[visual], minlength=tokens.num_videos).tolist()
        question = entry.signals.question or (None,) * tokens.num_videos
        raters = [
            None if text is None or not count else _raters(tokens.features[visual & (tokens.batch == video)], text)
            for video, (text, count) in enumerate(zip(question, counts, strict=True))
        ]
        lineage = Lineage(len(tokens), tokens.device)
        received = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        places = [max(1, layer * stage // STAGES[-1]) for stage in STAGES]
        view = yield Step(torch.ones_like(visual), layer=places[0])
        for stage in range(len(STAGES)):
            last = view.last or stage == len(STAGES) - 1
            keep = ~self.visual(view.tokens)
            target = torch.full_like(view.index, -1)
            weight = torch.ones(len(keep), dtype=torch.float32, device=keep.device)
            for video, rows, clip in self._clips(view.tokens, view.signals):
                budget = min(len(rows), self._budget(counts[video], len(STAGES) - 1 if last else stage, entry.layers))
                received[view.index[rows]] = attention = self._rating(view, video, rows, clip, raters[video])
                made = self._recycle(clip.features, attention, budget, beside=not self.exact)
                keep[rows] = made.keep
                weight[rows] = made.weight
                target[rows] = torch.where(made.target >= 0, rows[made.target.clamp(min=0)], -1)
            lineage.follow(view.index, keep, target, weight)
            if last:
                break
            view = yield Step(keep, target, weight, layer=max(view.layer + 1, places[stage + 1]))
        stay = lineage.head == torch.arange(len(tokens), device=tokens.device)
        ranking = Ranking(
            importance=received,
            protected=stay & visual,
            merge_target=torch.where(stay, -1, lineage.head),
            merge_weight=torch.where(visual, lineage.weight, 0.0),
            budget=torch.bincount(tokens.batch[stay & visual], minlength=tokens.num_videos).tolist(),
        )
        selection = self.settle(tokens, ranking)
        yield Step(selection.mask[view.index], target, weight, selection=selection)

    def _budget(self, count: int, stage: int, layers: int) -> int:
        """Tokens that a round leaves of a video of ``count``, without clusters where these are beside them."""
        share = self.share(count)
        if not self.exact:
            mean = min(LISTS, key=lambda tokens: abs(tokens / WHOLE - share))
            return max(1, round(count * LISTS[mean][stage] / WHOLE))
        if stage == len(STAGES) - 1:
            return self.layer_budget(count, layers).at(0, count)
        parts = LISTS[192]
        power = math.log(parts[stage] / WHOLE) / math.log(parts[-1] / WHOLE)
        return max(self.layer_budget(count, layers).at(0, count), round(float(count * share**power)))

    def _rating(self, view: Round, video: int, rows: Tensor, clip: Clip, raters: Tensor | None) -> Tensor:
        """(n,) float64 attention of the tokens of a video."""
        if self.signal != "llm_attention":
            return clip.attention(self.signal)
        if raters is None:
            return view.attention()[rows].double()
        own = (view.tokens.batch == video).nonzero()[:, 0]
        return view.attention_of_text(video, raters)[torch.searchsorted(own, rows)].double()


class _Recycled(NamedTuple):
    """What one round makes of n tokens.

    Attributes:
        keep: (n,) bool, with the centres of clusters.
        target: (n,) int64, the centre that a token goes into, −1 for others.
        weight: (n,) float32, its part in that.
        centre: (c,) int64, centres of clusters.
    """

    keep: Tensor
    target: Tensor
    weight: Tensor
    centre: Tensor


def _raters(x: Tensor, text: Question) -> Tensor:
    """(m,) int64, the text tokens that the visual tokens ``x`` (n, d) are more like than like the mean one."""
    states = text.states.to(x.device).double()
    like = (x.double() @ states.T).softmax(1).mean(0)
    above = (like > like.mean()).nonzero()[:, 0]
    return above if len(above) else torch.arange(len(like), device=x.device)
