"""FrameFusion: merge what stays the same, then prune by attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from ..errors import check_choice, check_number
from ..tokens import VideoTokens
from .base import Ranking, place_of
from .parts import first, mean_weights, roots
from .per_video import ATTENTION_SOURCES, AttentionSource, Choice, Clip, VideoSelector, predecessors
from .rounds import BUDGET_RULES, BudgetRule, LayerBudget, Lineage, Round, Rounds, Step, budget_notes
from .selection import Selection, blend_of

FEWEST_MERGED = 0.1
"""Share of the tokens of a round; when fewer are merged in it, merging ends."""

LAYERS = 28
"""Of the model that the plain selector stands for."""


class Goal(Protocol):
    """How many tokens of a video are to be left behind a round."""

    def set(self, layer: int, present: int) -> None:
        """Begin round ``layer``, before which ``present`` tokens are there."""

    def reached_by(self, merged: int) -> bool:
        """Whether it is enough to merge this many."""

    @property
    def surplus(self) -> int:
        """Tokens to merge where more could be."""

    @property
    def allowed(self) -> int:
        """Tokens that pruning leaves."""

    def note(self, merged: int) -> None:
        """Note how many were merged in this round, which was not enough."""


class Exact:
    """The budget rules of :class:`LayerBudget`."""

    def __init__(self, budget: LayerBudget) -> None:
        self.budget, self.present, self.allowed = budget, budget.count, 0

    def set(self, layer: int, present: int) -> None:
        """Ask the rule."""
        self.present, self.allowed = present, self.budget.at(layer, present)

    def reached_by(self, merged: int) -> bool:
        """At least the surplus."""
        return merged >= self.surplus

    @property
    def surplus(self) -> int:
        """All that is not allowed."""
        return max(self.present - self.allowed, 0)

    def note(self, merged: int) -> None:
        """Nothing: the rule looks at the tokens that are left."""


@dataclass
class Cost:
    """The cost as the authors' code counts it, in doubles: the mean share over the layers is to be r.

    Attributes:
        retention: r.
        layers: of the model.
        passed: the share that is left behind each round so far.
        present: tokens of this round.
    """

    retention: float
    layers: int
    passed: list[float] = field(default_factory=list)
    present: int = 0

    def set(self, layer: int, present: int) -> None:
        """The layer plays no part: one layer is counted for each round."""
        self.present = present

    @property
    def share(self) -> float:
        """The share of the present tokens that is to go."""
        left = self.layers * self.retention - sum(self.passed)
        quotient = left / ((self.layers - len(self.passed)) * (self.passed[-1] if self.passed else 1.0))
        return 1 - min(max(quotient, 0.0), 1.0)

    def reached_by(self, merged: int) -> bool:
        """As large a share as is to go."""
        return merged / self.present >= self.share

    @property
    def surplus(self) -> int:
        """Rounded down."""
        return int(self.share * self.present)

    @property
    def allowed(self) -> int:
        """Rounded to the nearest, at least one."""
        return max(1, round(self.present * (1 - self.share)))

    def note(self, merged: int) -> None:
        """Count one more layer."""
        self.passed.append((self.passed[-1] if self.passed else 1.0) * (1 - merged / self.present))


@dataclass
class _Video:
    """How far one video is.

    Attributes:
        goal: what may stay of it.
        merging: whether the next round merges; otherwise it prunes.
        done: no more tokens need to go.
    """

    goal: Goal
    merging: bool = True
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class FrameFusion(VideoSelector):
    """FrameFusion (Fu et al., ICCV 2025, arXiv 2501.01986): tokens that are like their predecessor are merged, others
    are pruned.

    Followed: s = cosine of a token with the last one before it at the same position that is left. Tokens with s ≥ the
    threshold are merged, a run of them averaged into its head, which keeps its place; where that is more than the
    budget needs, exactly those with the largest s, and all is done. Inside a model this happens at the entry of layer 0
    and behind the attention of every layer, with the hidden states there and the tokens that are left. When fewer than
    a tenth are merged in a round, merging ends, and the next round prunes the rest by the attention of the last prompt
    token. Newline tokens of rows are a column of the grid like any other, ``separators="column"``.
    ``count="published"``: the mean share over the layers is r, in the doubles of the authors' code.

    Departures: ``count="exact"``: ⌈r·N⌉ are left unless ``budget`` says otherwise. The last round that a model has
    prunes in any case. As a plain selector, the rounds of a model of 28 layers that change nothing. A run whose head is
    pruned is lost with it.

    Attributes:
        similarity_threshold: S_th in [−1, 1].
        signal: whose attention prunes: the LLM's as published, the encoder's, or the substitute ``"features"``. With
            the latter two the place of the method is before the LLM.
        budget: for ``count="exact"``; ``"tokens"``: ⌈r·N⌉ are left behind the last round. ``"mean_over_layers"``: the
            mean over the layers of a model is r·N; the same as a plain selector, after which all layers have the same
            tokens.
        separators: as for every selector, or ``"column"``: newline tokens of rows are tokens like any other, the rest
            as with ``"proportional"``.
    """

    similarity_threshold: float = 0.6
    signal: AttentionSource = "llm_attention"
    budget: BudgetRule = "tokens"
    separators: Literal["proportional", "keep", "drop", "vertex", "column"] = "column"  # type: ignore[assignment]

    SEPARATORS: ClassVar[tuple[str, ...]] = (*VideoSelector.SEPARATORS, "column")
    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)
        check_choice("signal", self.signal, ATTENTION_SOURCES)
        check_choice("budget", self.budget, BUDGET_RULES)

    def choose(self, clip: Clip) -> Choice:
        """The attention of the tokens that the rounds leave, and what they took in."""
        goal: Goal = Exact(LayerBudget("tokens", clip.retention, len(clip), LAYERS))
        if not self.exact:
            goal = Cost(clip.retention, LAYERS)
        attention = clip.attention(self.signal)
        video, lineage = _Video(goal), Lineage(len(clip), clip.coords.device)
        left, x = torch.arange(len(clip), device=clip.coords.device), clip.features
        for layer in range(LAYERS):
            now = replace(clip, features=x, coords=clip.coords[left])
            own = attention[left]
            keep, target = self._step(video, layer, now, lambda own=own: own, last=layer == LAYERS - 1)  # type: ignore[misc]
            blend = blend_of(keep, target, weight := mean_weights(keep, target))
            lineage.follow(left, keep, target, weight)
            heads = blend.into.unique()
            x = x.double().index_copy(0, heads, blend.sums(heads, x.double()))[keep]
            left = left[keep]
            if video.done:
                break
        stay = torch.zeros(len(clip), dtype=torch.bool, device=left.device)
        stay[left] = True
        target = torch.where(stay, -1, lineage.head)
        return Choice(attention, stay, blend=blend_of(stay, target, lineage.weight))

    def visual(self, tokens: VideoTokens) -> Tensor:
        """(N,) bool, the tokens that count towards the budget; in ``"column"`` the newline tokens of rows, too."""
        if self.separators != "column":
            return super().visual(tokens)
        grids = torch.tensor(tokens.grids, device=tokens.device)[tokens.batch]
        row, column = tokens.coords[:, 1], tokens.coords[:, 2]
        return ~tokens.separator | ((column == grids[:, 2]) & (row >= 0) & (row < grids[:, 1]))

    # -- inside a language model ---------------------------------------------------------------------------------------

    @property
    def natural_trim(self) -> Literal["before", "inside"]:
        """Inside the model whose attention it asks for."""
        return place_of(self.signal)

    def last_round(self, layers: int) -> int:
        """All that the model has."""
        return layers - 1

    def layer_budget(self, count: int, layers: int) -> LayerBudget:
        """By the rule that was chosen."""
        return LayerBudget(self.budget, self.share(count), count, layers)

    def rounds(self, entry: Round, layer: int) -> Rounds:
        """Merge at the entry and behind the attention of every layer, then prune once."""
        tokens = entry.tokens
        counts = torch.bincount(tokens.batch[self.visual(tokens)], minlength=tokens.num_videos).tolist()
        budgets = [self.layer_budget(count, entry.layers) for count in counts]
        if not self.exact:
            budgets = [replace(budget, rule="mean_over_layers") for budget in budgets]
        goals = [Exact(budget) if self.exact else Cost(budget.retention, entry.layers) for budget in budgets]
        videos = [_Video(goal, done=not count) for goal, count in zip(goals, counts, strict=True)]
        lineage = Lineage(len(tokens), tokens.device)
        received = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        view = entry
        while True:
            keep = torch.ones_like(view.index, dtype=torch.bool)
            target = torch.full_like(view.index, -1)
            for number, rows, clip in self._clips(view.tokens, view.signals):
                if not videos[number].done:
                    attention = partial(self._attention, view, rows, clip, received)
                    if not self.exact:
                        budgets[number].at(view.layer, len(clip))  # records the attention of the layers so far
                    keep[rows], into = self._step(videos[number], view.layer, clip, attention, last=view.last)
                    target[rows] = torch.where(into >= 0, rows[into.clamp(min=0)], -1)
            weight = mean_weights(keep, target)
            lineage.follow(view.index, keep, target, weight)
            if view.last or all(video.done for video in videos):
                break
            view = yield Step(keep, target, weight, layer=view.layer + 1)
        selection = self._selection(tokens, lineage, received, budgets)
        yield Step(selection.mask[view.index], target, weight, selection=selection)

    def _step(
        self, video: _Video, layer: int, clip: Clip, attention: Callable[[], Tensor], *, last: bool
    ) -> tuple[Tensor, Tensor]:
        """(n,) bool, which tokens of a video stay in this round, and (n,) int64 what the others are merged into."""
        goal = video.goal
        goal.set(layer, len(clip))
        if video.merging:
            match, similarity = predecessors(clip, adjacent=False)
            marked = (match >= 0) & (similarity >= self.similarity_threshold)
            count = int(marked.sum())
            video.done = goal.reached_by(count)
            if video.done or not last:
                if video.done:
                    count = goal.surplus
                else:
                    goal.note(count)
                merged = first(similarity.masked_fill(~marked, -torch.inf), count)
                video.merging = count >= FEWEST_MERGED * len(clip)
                return ~merged, torch.where(merged, roots(torch.where(merged, match, -1)), -1)
        video.done = True
        return first(attention(), goal.allowed), torch.full_like(clip.coords[:, 0], -1)

    def _attention(self, view: Round, rows: Tensor, clip: Clip, received: Tensor) -> Tensor:
        """(n,) float64 attention of the tokens of a video, noted in ``received`` (N,)."""
        own = view.attention()[rows] if self.signal == "llm_attention" else clip.attention(self.signal)
        received[view.index[rows]] = own.double()
        return own.double()

    def _selection(
        self, tokens: VideoTokens, lineage: Lineage, received: Tensor, budgets: list[LayerBudget]
    ) -> Selection:
        """What became of all tokens."""
        stay = lineage.head == torch.arange(len(tokens), device=tokens.device)
        visual = self.visual(tokens)
        left = torch.bincount(tokens.batch[stay & visual], minlength=tokens.num_videos).tolist()
        ranking = Ranking(
            importance=received,
            protected=stay,
            merge_target=torch.where(stay, -1, lineage.head),
            merge_weight=torch.where(visual, lineage.weight, 0.0),
            budget=left,
            notes=budget_notes(budgets, left),
        )
        return self.settle(tokens, ranking)
