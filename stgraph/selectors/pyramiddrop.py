"""PyramidDrop: more tokens go the deeper the layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import check_number
from ..tokens import VideoTokens
from .base import Ranking
from .fastv import FastV
from .parts import first
from .rounds import Round, Rounds, Step, last_step


@dataclass(frozen=True, kw_only=True)
class PyramidDrop(FastV):
    """PyramidDrop (Xing et al., CVPR 2025, arXiv 2410.17247): three rounds inside the LLM, by its attention.

    Followed: behind a quarter, a half and three quarters of the layers the tokens that the last prompt token attends to
    least go, in the same proportion every time. ``count="published"``: half of them, whatever the retention.

    Departures: ``count="exact"``: in the proportion ∛r, so that ⌈r·N⌉ are left in the end. As a plain selector, which
    has one attention for all layers, it is FastV.

    Attributes:
        stages: rounds inside the LLM.
    """

    stages: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("stages", self.stages, at_least=1, integer=True)

    def last_round(self, layers: int) -> int:
        """Behind the last stage's layer."""
        return max(1, min(layers - 1, layers * self.stages // (self.stages + 1)))

    def rounds(self, entry: Round, layer: int) -> Rounds:
        """Prune behind evenly spaced layers."""
        tokens = entry.tokens
        visual = self.visual(tokens)
        counts = torch.bincount(tokens.batch[visual], minlength=tokens.num_videos).tolist()
        received = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        alive = torch.ones_like(visual)
        view = yield Step(alive.clone(), layer=max(1, layer // self.stages))
        for stage in range(1, self.stages + 1):
            last = view.last or stage == self.stages
            share = 1.0 if last else stage / self.stages
            budgets = [max(1, math.ceil(n * self._kept(share, n))) if n else 0 for n in counts]
            if last:
                budgets = [self.layer_budget(n, entry.layers).at(view.layer, n) for n in counts]
                if not self.exact:
                    budgets = [max(1, round(n * 0.5**self.stages)) if n else 0 for n in counts]
            own = view.attention().double()
            received[view.index] = own
            ranking = Ranking(importance=received.clone(), protected=alive, budget=budgets)
            if last:
                selection = self.settle(tokens, replace(ranking, importance=received.masked_fill(~alive, 0)))
                yield last_step(view, selection)
                return
            keep = self._first(tokens, received.masked_fill(~alive, -torch.inf), visual, budgets)
            alive = keep | ~visual
            view = yield Step(alive[view.index], layer=max(view.layer + 1, layer * (stage + 1) // self.stages))

    def _kept(self, share: float, count: int) -> float:
        return float(self.share(count) ** share if self.exact else 0.5 ** (share * self.stages))

    def _first(self, tokens: VideoTokens, score: Tensor, visual: Tensor, budgets: list[int]) -> Tensor:
        """(N,) bool, the largest scores of every video."""
        keep = torch.zeros_like(visual)
        for video, budget in enumerate(budgets):
            rows = (visual & (tokens.batch == video)).nonzero()[:, 0]
            keep[rows[first(score[rows], budget)]] = True
        return keep
