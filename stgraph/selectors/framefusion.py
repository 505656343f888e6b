"""FrameFusion: merge what stays the same, then prune by attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..errors import check_choice, check_number
from ..kernels import edge_cosine, norms, snap
from ..tokens import VideoTokens
from .base import Ranking
from .per_video import (
    ATTENTION_SOURCES,
    AttentionSource,
    Choice,
    Clip,
    VideoSelector,
    first,
    mean_weights,
    on_grid,
    previous_matches,
    roots,
)
from .rounds import BUDGET_RULES, BudgetRule, LayerBudget, Lineage, Round, Rounds, Step, budget_notes
from .selection import Selection

FEWEST_MERGED = 0.1
"""Share of the tokens of a round; when fewer are merged in it, merging ends."""


@dataclass
class _Video:
    """How far one video is.

    Attributes:
        budget: what may stay of it.
        merging: whether the next round merges; otherwise it prunes.
        done: no more tokens need to go.
    """

    budget: LayerBudget
    merging: bool = True
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class FrameFusion(VideoSelector):
    """FrameFusion (Fu et al., ICCV 2025): tokens like their predecessor are merged into it, the rest is pruned.

    Followed: s = cosine of a token with the one before it at the same position. Tokens with s ≥ the threshold are
    merged, a run of them averaged into its head, which keeps its place; where that is more than the budget needs,
    exactly those with the largest s, and all is done. Inside a model this happens at the entry of layer 0 and behind
    the attention of layer 1 and all further ones, with the hidden states there and the tokens that are left. When fewer
    than a tenth are merged in a round, merging ends, and the next round prunes the rest by the attention of the last
    prompt token.

    Departures: the budget is ⌈r·N⌉ unless ``budget`` says otherwise. The last round that a model has prunes in any
    case. As a plain selector, one merging of adjacent frames on the tokens that enter the LLM and then the pruning. A
    run whose head is pruned is lost with it.

    Attributes:
        similarity_threshold: S_th in [−1, 1].
        signal: whose attention prunes: the LLM's as published, the encoder's, or the substitute ``"features"``. With
            the latter two the place of the method is before the LLM.
        budget: ``"tokens"``: ⌈r·N⌉ are left behind the last round. ``"mean_over_layers"``: as published, the mean over
            the layers of a model is r·N; the same as a plain selector, after which all layers have the same tokens.
    """

    similarity_threshold: float = 0.6
    signal: AttentionSource = "llm_attention"
    budget: BudgetRule = "tokens"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)
        check_choice("signal", self.signal, ATTENTION_SOURCES)
        check_choice("budget", self.budget, BUDGET_RULES)

    def choose(self, clip: Clip) -> Choice:
        """Runs along the time axis, and the attention of their heads."""
        attention = clip.attention(self.signal)
        match, similarity = previous_matches(clip, radius=0)
        flagged = (match >= 0) & (similarity >= on_grid(self.similarity_threshold))
        merged = first(similarity.masked_fill(~flagged, -torch.inf), min(int(flagged.sum()), len(clip) - clip.budget))
        chosen = first(attention.masked_fill(merged, -torch.inf), clip.budget)
        head = roots(torch.where(merged, match, -1))
        target = torch.where(merged & chosen[head], head, -1)
        return Choice(attention, chosen, target, mean_weights(chosen, target))

    # -- inside a language model ---------------------------------------------------------------------------------------

    @property
    def natural_trim(self) -> Literal["before", "inside"]:
        """Inside the model whose attention it asks for."""
        return "inside" if self.signal == "llm_attention" else "before"

    def last_round(self, layers: int) -> int:
        """All that the model has."""
        return layers - 1

    def layer_budget(self, count: int, layers: int) -> LayerBudget:
        """By the rule that was chosen."""
        return LayerBudget(self.budget, self.share(count), count, layers)

    def rounds(self, entry: Round, layer: int) -> Rounds:
        """Merge at the entry and from the second layer on, then prune once."""
        tokens = entry.tokens
        counts = torch.bincount(tokens.batch[self.visual(tokens)], minlength=tokens.num_videos).tolist()
        videos = [_Video(self.layer_budget(count, entry.layers), done=not count) for count in counts]
        lineage = Lineage(len(tokens), tokens.device)
        received = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        view = entry
        while True:
            keep = torch.ones_like(view.index, dtype=torch.bool)
            target = torch.full_like(view.index, -1)
            for number, rows, clip in self._clips(view.tokens, view.signals):
                if not videos[number].done:
                    attention = partial(self._attention, view, rows, clip, received)
                    keep[rows], into = self._step(videos[number], view, clip, attention)
                    target[rows] = torch.where(into >= 0, rows[into.clamp(min=0)], -1)
            weight = mean_weights(keep, target)
            lineage.follow(view.index, keep, target, weight)
            if view.last or all(video.done for video in videos):
                break
            view = yield Step(keep, target, weight, layer=max(2, view.layer + 1))
        selection = self._selection(tokens, lineage, received, [video.budget for video in videos])
        yield Step(selection.mask[view.index], target, weight, selection=selection)

    def _step(self, video: _Video, view: Round, clip: Clip, attention: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """(n,) bool, which tokens of a video stay in this round, and (n,) int64 what the others are merged into."""
        allowed = video.budget.at(view.layer, len(clip))
        need = len(clip) - allowed
        if video.merging:
            match, similarity = _predecessors(clip)
            flagged = (match >= 0) & (similarity >= on_grid(self.similarity_threshold))
            count = int(flagged.sum())
            if count >= need or not view.last:
                merged = first(similarity.masked_fill(~flagged, -torch.inf), min(count, need))
                video.done, video.merging = count >= need, count >= FEWEST_MERGED * len(clip)
                return ~merged, torch.where(merged, roots(torch.where(merged, match, -1)), -1)
        video.done = True
        return first(attention(), allowed), torch.full_like(clip.coords[:, 0], -1)

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


def _predecessors(clip: Clip) -> tuple[Tensor, Tensor]:
    """The token before each at the same position, however many frames ago: (n,) int64, −1 for none, and the cosine."""
    place = clip.coords[:, 1] * (int(clip.coords[:, 2].max()) + 1) + clip.coords[:, 2]
    order = torch.sort(place, stable=True).indices
    same = place[order[1:]] == place[order[:-1]]
    pairs = torch.stack([order[:-1][same], order[1:][same]])
    rows = torch.arange(len(clip), device=order.device)
    match, cosine = torch.full_like(order, -1), torch.full((len(clip),), -2.0, dtype=torch.float64, device=order.device)
    match[pairs[1]] = pairs[0]
    cosine[pairs[1]] = snap(edge_cosine(clip.features, norms(clip.features, rows), rows, pairs))
    return match, cosine
