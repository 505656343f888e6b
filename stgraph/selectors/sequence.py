"""Two methods one after the other, as real systems combine them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..budget import ceil_share
from ..errors import StgraphError, check_number
from ..kernels import norms
from ..registry import group_field
from ..signals import Signals
from ..tokens import VideoTokens, check_finite
from .base import Ranking, Selector
from .rounds import Round, Rounds, Step, last_step
from .selection import Blend, Selection


@dataclass(frozen=True, kw_only=True)
class Sequence(Selector):
    """``first`` brings a video down to a share of its tokens, ``second`` what is left of it to ⌈r·N⌉.

    The second method sees what kept tokens have become by merging. Where it has its place inside a language model
    (FastV, FrameFusion, PyramidDrop), the first prunes at the entry and the second in its rounds: encoder-side with
    LLM-side. There the videos of a batch must have the same number of tokens.

    Attributes:
        first: the method that comes first; its own retention plays no part.
        second: the method that comes second; its own retention plays no part.
        first_retention: share of the tokens that the first one leaves, from r to 1; None takes √r.
    """

    first: Selector = group_field("selector", "evs")
    second: Selector = group_field("selector", "divprune")
    first_retention: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_retention is not None:
            check_number("first_retention", self.first_retention, above=0, at_most=1)

    @property
    def reads_question(self) -> bool:
        """Whether one of the two does."""
        return self.first.reads_question or self.second.reads_question

    @property
    def natural_trim(self) -> Literal["before", "inside"]:
        """That of the second method."""
        return self.second.natural_trim

    def last_round(self, layers: int) -> int:
        """That of the second method."""
        return self.second.last_round(layers)

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """The tokens that both keep."""
        keep = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        score = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        places = self.visual(tokens).nonzero()[:, 0]
        check_finite(norms(tokens.features, places), tokens.coords[places], tokens.batch[places])
        blends, notes, merges = [Blend.empty(tokens.device)], [], False
        offsets = tokens.offsets
        for video in range(tokens.num_videos):
            rows = torch.arange(offsets[video], offsets[video + 1], device=tokens.device)
            part = tokens.video(video)
            own = signals.take(rows)
            if signals.question is not None:
                own = replace(own, question=(signals.question[video],))
            count = int(self.visual(part).sum())
            if not count:
                continue
            budget = ceil_share(self.retention, count)
            one = self._first(count, budget)(part, own)
            left = replace(part.take(one.indices), features=one.apply(part.features))
            two = self._fitting(self.second, budget, len(left))(left, own.take(one.indices))
            kept = one.indices[two.indices]
            keep[rows[kept]] = True
            score[rows[one.indices]] = 1 + two.importance.double().argsort(stable=True).argsort().double()
            merges |= one.merges or two.merges
            blend = _after(one, two)
            blends.append(Blend(rows[blend.into], rows[blend.source], blend.weight))
            notes += [*one.notes, *two.notes]
        ranking = Ranking(importance=score, protected=keep, notes=tuple(notes))
        if not merges:
            return ranking
        blend = Blend.cat(blends).changes()
        target, weight = blend.main_targets(keep)
        return replace(ranking, merge_target=target, merge_weight=weight, blend=blend)

    def rounds(self, entry: Round, layer: int) -> Rounds:
        """The first method at the entry, then the rounds of the second on what is left."""
        tokens = entry.tokens
        if tokens.num_videos > 1 or self.first_retention == 1:
            # One budget for all videos of a batch would not be exact, so each has its own retention only where it is
            # alone; a batch of equal videos is.
            counts = torch.bincount(tokens.batch[self.visual(tokens)], minlength=tokens.num_videos).unique()
            if len(counts[counts > 0]) > 1:
                raise StgraphError(
                    "sequence prunes inside the language model one video size at a time; give videos of one size in a "
                    'batch, or use trim="before"'
                )
        count = int(self.visual(tokens).sum()) // max(1, len(tokens.batch.unique()))
        budget = ceil_share(self.retention, count)
        one = replace(self._first(count, budget), separators="keep")(tokens, entry.signals)
        start = last_step(entry, one)
        left = replace(tokens.take(one.indices), features=one.apply(tokens.features))
        second: Selector = replace(self._fitting(self.second, budget, one.budget[0]), separators=self.separators)
        inner = second.rounds(replace(entry, tokens=left, index=torch.arange(len(left))), layer)
        step = next(inner)
        index = one.indices
        view = yield _joined(start, one, step)
        while True:
            place = torch.searchsorted(index, view.index)
            step = inner.send(replace(view, index=place))
            if step.selection is None:
                view = yield step
                continue
            two = step.selection
            keep = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
            keep[index[two.indices]] = True
            blend = _after(one, two)
            fields: dict[str, Any] = {}
            if one.merges or two.merges:
                target, weight = blend.main_targets(keep)
                fields = {"merge_target": target, "merge_weight": weight, "blend": blend}
            score = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
            score[index] = two.importance.double()
            visual = keep & self.visual(tokens)
            left_counts = torch.bincount(tokens.batch[visual], minlength=tokens.num_videos).tolist()
            ranking = Ranking(importance=score, protected=keep, notes=two.notes, budget=left_counts, **fields)
            selection = self.settle(tokens, ranking)
            yield replace(step, keep=selection.mask[view.index], selection=selection)
            return

    def _first(self, count: int, budget: int) -> Selector:
        share = self.retention**0.5 if self.first_retention is None else self.first_retention
        return self._fitting(self.first, max(budget, ceil_share(share, count)), count)

    def _fitting(self, selector: Selector, budget: int, count: int) -> Selector:
        """The method at a retention that keeps exactly ``budget`` of ``count`` tokens."""
        separators: Any = "vertex" if self.separators == "vertex" else "drop"
        retention = 1.0 if budget >= count else (budget - 0.5) / count
        return replace(selector, retention=retention, separators=separators)


def _joined(start: Step, one: Selection, step: Step) -> Step:
    """The first step of both methods: what the first drops, and what the second does then."""
    keep = torch.zeros_like(start.keep)
    keep[one.indices[step.keep]] = True
    return Step(keep, blend=start.blend, layer=step.layer)


def _after(one: Selection, two: Selection) -> Blend:
    """The sums of the second selection, of tokens of the first, as sums of all tokens."""
    before, after = one.sums(), two.sums()
    device = one.verdict.device
    heads = torch.zeros(len(one.verdict), dtype=torch.bool, device=device)
    heads[before.into] = True
    alone = one.indices[~heads[one.indices]]
    before = Blend.cat([before, Blend(alone, alone, torch.ones(len(alone), dtype=torch.float32, device=device))])
    changed = torch.zeros(len(two.verdict), dtype=torch.bool, device=device)
    changed[after.into] = True
    same = two.indices[~changed[two.indices]]
    after = Blend.cat([after, Blend(same, same, torch.ones(len(same), dtype=torch.float32, device=device))])
    into, source = one.indices[after.into], one.indices[after.source]
    starts = torch.searchsorted(before.into, source)
    sizes = torch.searchsorted(before.into, source, right=True) - starts
    entry = torch.repeat_interleave(torch.arange(len(source), device=device), sizes)
    within = torch.arange(len(entry), device=device) - torch.repeat_interleave(torch.cumsum(sizes, 0) - sizes, sizes)
    row: Tensor = starts[entry] + within
    return Blend.cat([Blend(into[entry], before.source[row], after.weight[entry] * before.weight[row])]).changes()
