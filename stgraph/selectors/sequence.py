"""Two methods one after the other, as real systems combine them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..budget import ceil_share
from ..errors import check_number
from ..kernels import norms
from ..registry import group_field
from ..signals import Signals
from ..tokens import VideoTokens, check_finite
from .base import Ranking, Selector
from .rounds import Round, Rounds, Step, sums_of
from .selection import Blend, Selection


@dataclass(frozen=True, kw_only=True)
class Sequence(Selector):
    """``first`` brings a video down to a share of its tokens, ``second`` what is left of it to ⌈r·N⌉.

    The second method sees what kept tokens have become by merging. Where it has its place inside a language model
    (FastV, FrameFusion, PyramidDrop, SparseVLM), the first prunes at the entry and the second in its rounds:
    encoder-side with LLM-side.

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
        places = self.visual(tokens).nonzero()[:, 0]
        check_finite(norms(tokens.features, places), tokens.coords[places], tokens.batch[places])
        found = []
        for rows, part, own, budget in self._parts(tokens, signals):
            one = self._first(int(self.visual(part).sum()), budget)(part, own)
            left = replace(part.take(one.indices), features=one.apply(part.features))
            found.append((rows, one, self._fitting(self.second, budget, len(left))(left, own.take(one.indices))))
        return _both(tokens, found)

    def _parts(self, tokens: VideoTokens, signals: Signals) -> Iterator[tuple[Tensor, VideoTokens, Signals, int]]:
        """Rows, tokens, signals and budget of every video that has visual tokens."""
        offsets = tokens.offsets
        for video in range(tokens.num_videos):
            part = tokens.video(video)
            count = int(self.visual(part).sum())
            if count:
                rows = torch.arange(offsets[video], offsets[video + 1], device=tokens.device)
                yield rows, part, _of_video(signals.take(rows), video), ceil_share(self.share(count, video), count)

    def rounds(self, entry: Round, layer: int) -> Rounds:
        """The first method at the entry, then the rounds of the second on what is left, each video by itself."""
        tokens = entry.tokens
        inner = [
            _Inner(self, entry, layer, *part, video=int(tokens.batch[part[0][0]]))
            for part in self._parts(tokens, entry.signals)
        ]
        outside = ~self.visual(tokens)  # of videos that have no other tokens
        for part in inner:
            outside[part.rows] = False
        steps, view = [part.begin() for part in inner], entry
        while True:
            keep = outside[view.index].clone()
            blends = [Blend.empty(keep.device)]
            for rows, step in steps:
                keep[rows] = step.keep
                blend = sums_of(step)
                if blend is not None:
                    blends.append(Blend(rows[blend.into], rows[blend.source], blend.weight))
            blend = Blend.cat(blends)
            open_parts = [part for part in inner if part.selection is None]
            if not open_parts:
                break
            wanted = min(part.due for part in open_parts)
            view = yield Step(keep, blend=blend, layer=max(wanted, view.layer + 1))
            steps = [part.step(view) for part in inner]
        ranking = _both(tokens, [(part.rows, part.one, part.selection) for part in inner if part.selection is not None])
        selection = self.settle(tokens, replace(ranking, budget=self._left(tokens, ranking)))
        yield Step(selection.mask[view.index], blend=blend, selection=selection)

    def _left(self, tokens: VideoTokens, ranking: Ranking) -> list[int]:
        """Visual tokens that stay of each video."""
        assert ranking.protected is not None
        stay = ranking.protected & self.visual(tokens)
        found: list[int] = torch.bincount(tokens.batch[stay], minlength=tokens.num_videos).tolist()
        return found

    def _first(self, count: int, budget: int) -> Selector:
        share = (budget / count) ** 0.5 if self.first_retention is None else self.first_retention
        return self._fitting(self.first, max(budget, ceil_share(share, count)), count)

    def _fitting(self, selector: Selector, budget: int, count: int) -> Selector:
        """The method at a retention that keeps exactly ``budget`` of ``count`` tokens."""
        separators: Any = "vertex" if self.separators == "vertex" else "drop"
        retention = 1.0 if budget >= count else (budget - 0.5) / count
        return replace(selector, retention=retention, tokens=None, separators=separators)


class _Inner:
    """Both methods at work on one video inside a language model.

    Attributes:
        rows: (n,) int64 the video's tokens among all.
        one: what the first method makes of them.
        due: the next round of the second.
        selection: of the second, among what the first leaves; None as long as it has rounds to come.
    """

    def __init__(
        self,
        both: Sequence,
        entry: Round,
        layer: int,
        rows: Tensor,
        part: VideoTokens,
        signals: Signals,
        budget: int,
        *,
        video: int,
    ) -> None:
        self.rows, self.due = rows, 0
        self.selection: Selection | None = None
        self._video = video
        self._outside = ~both.visual(entry.tokens)  # separators, of which is decided in the end
        first = both._first(int(both.visual(part).sum()), budget)
        self.one = replace(first, separators="keep" if first.separators == "drop" else first.separators)(part, signals)
        self._left = rows[self.one.indices]
        left = replace(part.take(self.one.indices), features=self.one.apply(part.features))
        second = replace(both._fitting(both.second, budget, self.one.budget[0]), separators=both.separators)
        own = replace(entry, tokens=left, index=torch.arange(len(left)), signals=signals.take(self.one.indices))
        self._rounds = second.rounds(own, layer)

    def begin(self) -> tuple[Tensor, Step]:
        """The first step of both: rows of the round, and what becomes of them."""
        step = next(self._rounds)
        self.due, self.selection = step.layer, step.selection
        keep = torch.zeros(len(self.rows), dtype=torch.bool, device=self.rows.device)
        keep[self.one.indices[step.keep]] = True
        keep |= self._outside[self.rows]
        after = sums_of(step) or Blend.empty(keep.device)
        return self.rows, Step(keep, blend=_chained(self.one, step.keep.nonzero()[:, 0], after), layer=step.layer)

    def step(self, view: Round) -> tuple[Tensor, Step]:
        """The part of this video in a round; all of it stays where none of its own is due."""
        rows = (view.tokens.batch == self._video).nonzero()[:, 0]
        if self.selection is not None or (view.layer < self.due and not view.last):
            return rows, Step(torch.ones(len(rows), dtype=torch.bool, device=rows.device))
        own = Round(
            tokens=view.tokens.video(self._video),
            index=torch.searchsorted(self._left, view.index[rows]),
            signals=_of_video(view.signals.take(rows), self._video),
            layer=view.layer,
            layers=view.layers,
            last=view.last,
            attention=lambda: view.attention()[rows],
            attention_of_text=lambda _, which: view.attention_of_text(self._video, which),
        )
        step = self._rounds.send(own)
        self.due, self.selection = step.layer, step.selection
        return rows, replace(step, keep=step.keep | self._outside[view.index[rows]], selection=None)


def _of_video(signals: Signals, video: int) -> Signals:
    """Signals of the tokens of one video, with its question alone."""
    return signals if signals.question is None else signals.with_question((signals.question[video],))


def _both(tokens: VideoTokens, found: list[tuple[Tensor, Selection, Selection]]) -> Ranking:
    """What two selections one after the other make of every video, given its rows."""
    keep = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    score = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    blends, notes = [Blend.empty(tokens.device)], []
    for rows, one, two in found:
        keep[rows[one.indices[two.indices]]] = True
        score[rows[one.indices]] = 1 + two.importance.double().argsort(stable=True).argsort().double()
        blend = _chained(one, two.indices, two.sums())
        blends.append(Blend(rows[blend.into], rows[blend.source], blend.weight))
        notes += [*one.notes, *two.notes]
    ranking = Ranking(importance=score, protected=keep, notes=tuple(notes))
    if not any(one.merges or two.merges for _, one, two in found):
        return ranking
    blend = Blend.cat(blends).changes()
    target, weight = blend.main_targets(keep)
    return replace(ranking, merge_target=target, merge_weight=weight, blend=blend)


def _chained(one: Selection, stay: Tensor, after: Blend) -> Blend:
    """Sums of the tokens that a selection keeps as sums of all tokens.

    Args:
        one: the selection, of N tokens, K of which it keeps.
        stay: (k,) int64 those of the K that stay.
        after: what some of these become, of all K.
    """
    before, device = one.sums(), one.verdict.device
    heads = torch.zeros(len(one.verdict), dtype=torch.bool, device=device)
    heads[before.into] = True
    alone = one.indices[~heads[one.indices]]
    before = Blend.cat([before, Blend(alone, alone, torch.ones(len(alone), dtype=torch.float32, device=device))])
    changed = torch.zeros(len(one.indices), dtype=torch.bool, device=device)
    changed[after.into] = True
    same = stay[~changed[stay]]
    after = Blend.cat([after, Blend(same, same, torch.ones(len(same), dtype=torch.float32, device=device))])
    into, source = one.indices[after.into], one.indices[after.source]
    starts = torch.searchsorted(before.into, source)
    sizes = torch.searchsorted(before.into, source, right=True) - starts
    entry = torch.repeat_interleave(torch.arange(len(source), device=device), sizes)
    within = torch.arange(len(entry), device=device) - torch.repeat_interleave(torch.cumsum(sizes, 0) - sizes, sizes)
    row: Tensor = starts[entry] + within
    return Blend.cat([Blend(into[entry], before.source[row], after.weight[entry] * before.weight[row])]).changes()
