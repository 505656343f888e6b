"""Rounds: how a method prunes inside a language model, at one layer after the other.

A round is named by the first decoder layer that no longer sees what goes. In round 0, at the entry of the language
model, a method sees its input embeddings; in round l the hidden states behind the attention of layer l − 1. Whatever
goes there would otherwise only pass the MLP of that layer, which works token by token, so for those that stay it is the
same whether the others leave before that MLP or behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..budget import ceil_share, exact_share
from ..errors import StgraphError
from ..signals import Signals
from ..tokens import VideoTokens
from .selection import Blend, Selection, blend_of

EARLY_LAYER = 2
"""FastV's K, the first layer that trimmed tokens are gone from."""

BudgetRule = Literal["tokens", "mean_over_layers"]
"""What retention is a share of: the tokens behind the last round, or the mean over all layers (as published)."""

BUDGET_RULES = ("tokens", "mean_over_layers")


def _no_text(video: int, which: Tensor) -> Tensor:
    raise StgraphError(
        "there is no attention of the text before the first layer of the language model; read it in a later round"
    )


@dataclass(frozen=True, eq=False)
class Round:
    """What a method sees of the tokens of all videos at one place of the language model.

    Attributes:
        tokens: those that are left, n of the N that entered the first round, with their hidden states as features.
        index: (n,) int64 which of the N they are, ascending.
        signals: of the encoder, for these tokens.
        layer: the first decoder layer that does not see what goes here, 0 for the entry of the model.
        layers: number of decoder layers.
        last: there is no further round.
        attention: gives the (n,) float32 head-mean attention that the last prompt token pays them in layer ``layer`` −
            1; not in round 0.
        attention_of_text: gives, for the number of a video and the (m,) numbers of text tokens behind it, rows of its
            :class:`~stgraph.signals.Question`, the float32 mean of their head-mean attention to each of the video's
            tokens; not in round 0.
    """

    tokens: VideoTokens
    index: Tensor
    signals: Signals
    layer: int
    layers: int
    last: bool
    attention: Callable[[], Tensor]
    attention_of_text: Callable[[int, Tensor], Tensor] = _no_text


@dataclass(frozen=True, eq=False)
class Step:
    """What a method does in a round.

    Attributes:
        keep: (n,) bool, the tokens that stay.
        target: (n,) int64, the token of this round that one which goes is merged into, −1 for all others; None where
            nothing is merged.
        weight: (n,) float32, the factor of each token in the sum that its head becomes; None with ``target``.
        blend: the sums themselves, of tokens of this round, where ``target`` and ``weight`` do not say all.
        layer: the next round that the method asks for, or the first possible one after it.
        selection: what became of all N tokens, when this is the last step; those that stay are ``keep``.
    """

    keep: Tensor
    target: Tensor | None = None
    weight: Tensor | None = None
    layer: int = 0
    selection: Selection | None = None
    blend: Blend | None = None


Rounds = Generator[Step, Round, None]
"""A running method: a generator that yields a step for every round sent to it, and with the last step its selection."""


@dataclass
class LayerBudget:
    """How many of the visual tokens of one video may stay, round after round.

    The published cost counts each layer with the tokens that are left behind its attention. The mean over all L layers
    is to be r·N: where the layers up to a round took ``spent`` of L·r·N, the rest is shared out evenly among those to
    come, and rounded to the nearest whole number. At least one token stays, also where nothing is left to share out.

    Attributes:
        rule: ``"tokens"``: ⌈r·N⌉, whatever came before. ``"mean_over_layers"``: as above.
        retention: r.
        count: N.
        layers: L.
    """

    rule: BudgetRule
    retention: float
    count: int
    layers: int
    spent: int = 0
    settled: int = 0

    def at(self, layer: int, left: int) -> int:
        """What may stay in round ``layer``, before which ``left`` tokens are there; rounds come in order."""
        passed = max(layer - 1, 0)  # layers whose tokens this round changes nothing about any more
        self.spent += left * (passed - self.settled)
        self.settled = passed
        if self.rule == "tokens":
            return ceil_share(self.retention, self.count)
        total = self.layers * exact_share(self.retention) * self.count
        return min(left, max(1, round((total - self.spent) / (self.layers - self.settled))))

    def mean(self, left: int) -> float:
        """The mean share over the layers, where ``left`` tokens stay behind the round that was asked for last."""
        return (self.spent + (self.layers - self.settled) * left) / (self.layers * self.count)


def budget_notes(budgets: Sequence[LayerBudget], left: Sequence[int]) -> tuple[str, ...]:
    """What the user should know of budgets over layers: a sentence for each video that has one."""
    return tuple(
        (f"video {number}: " if len(budgets) > 1 else "")
        + f"{budget.mean(count):.1%} of the visual tokens on the mean over {budget.layers} layers, "
        f"{count / budget.count:.1%} behind the last round"
        for number, (budget, count) in enumerate(zip(budgets, left, strict=True))
        if budget.rule == "mean_over_layers" and budget.count
    )


class Lineage:
    """Who went into whom, and with what weight, over several rounds of merging.

    Attributes:
        head: (N,) int64 the token that each is part of by now, itself where it is there, −1 where it is lost.
        weight: (N,) float32 its factor in that token, 0 where it is lost.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        """N tokens, all there."""
        self.head = torch.arange(count, device=device)
        self.weight = torch.ones(count, dtype=torch.float32, device=device)

    def follow(self, index: Tensor, keep: Tensor, target: Tensor, weight: Tensor) -> None:
        """One round among the tokens ``index`` (n,), see :class:`Step`."""
        place = torch.full_like(self.head, -1)
        place[index] = torch.arange(len(index), device=index.device)
        own = torch.where(self.head >= 0, place[self.head], -1)  # the token of this round that each is part of
        part = own >= 0
        after = torch.where(keep, index, torch.where(target >= 0, index[target.clamp(min=0)], -1))
        self.head[part] = after[own[part]]
        self.weight[part] *= weight[own[part]]
        self.weight[self.head < 0] = 0


def last_step(view: Round, selection: Selection) -> Step:
    """The step that makes of the tokens in a round what a selection from all N says."""
    keep = selection.mask[view.index]
    blend = selection.sums()
    if not len(blend.into):
        return Step(keep, selection=selection)
    place = torch.full_like(selection.verdict, -1, dtype=torch.int64)
    place[view.index] = torch.arange(len(view.index), device=place.device)
    here = place[blend.source] >= 0
    into, source, weight = (part[here] for part in blend)
    return Step(keep, blend=Blend(place[into], place[source], weight), selection=selection)


def sums_of(step: Step) -> Blend | None:
    """What a step merges; None for nothing."""
    if step.blend is not None:
        return step.blend
    if step.target is None or step.weight is None:
        return None
    blend = blend_of(step.keep, step.target, step.weight)
    return blend if len(blend.into) else None
