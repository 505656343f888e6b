"""Selector: the contract of every compression method, and the only place that knows about budgets."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..budget import ceil_share
from ..errors import StgraphError, check_choice, check_number
from ..signals import Signals
from ..tokens import VideoTokens
from .selection import Selection, Verdict

if TYPE_CHECKING:
    from torch import nn

    from ..models.attachment import Attachment


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a method says of the N tokens; the base class turns it into exactly ⌈r·N⌉ kept ones per video.

    Attributes:
        importance: (N,) float, larger is kept first, ties to the smaller index; cosines come as ``kernels.snap`` of
            them.
        candidate: (N,) uint8 bits, 1 = representative, 2 = event; all candidates come before all others. None when the
            method has no candidates and ranks by importance alone.
        protected: (N,) bool, kept before all other candidates, or None.
        community: (N,) int64, −1 where none; or None.
        centrality: (N,) float32, or None.
        difference: (N,) float32, or None.
        seconds: time of each stage.
        notes: sentences for the user.
        merge_target: (N,) int64, the kept token that a dropped one is merged into, −1 for all others; None where the
            method does not merge.
        merge_weight: (N,) float32, the factor of each token in that sum, see :class:`Selection`.
    """

    importance: Tensor
    candidate: Tensor | None = None
    protected: Tensor | None = None
    community: Tensor | None = None
    centrality: Tensor | None = None
    difference: Tensor | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    merge_target: Tensor | None = None
    merge_weight: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Selector(ABC):
    """A compression method; fields are its parameters, calling it selects.

    The base class owns validation, the exact budget, separators, batching and provenance; a method only ranks. Every
    method keeps exactly ⌈retention · N⌉ visual tokens of each video, known before it runs.

    Attributes:
        retention: share of the visual tokens that stay, in (0, 1]. Taken as the decimal number it is written as, so
            that ⌈0.1 · 30⌉ is 3.
        separators: newline tokens are no vertices. ``"proportional"``: of S in a video ⌈retention · S⌉ stay, those
            whose run of tokens keeps most. ``"keep"``: all stay, outside the budget. ``"drop"``: none stays.
            ``"vertex"``: they are tokens like any other, as in the authors' release.
    """

    retention: float = 0.3
    separators: Literal["proportional", "keep", "drop", "vertex"] = "proportional"

    def __post_init__(self) -> None:
        check_number("retention", self.retention, above=0, at_most=1)
        check_choice("separators", self.separators, ("proportional", "keep", "drop", "vertex"))

    @abstractmethod
    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """Rank the N tokens of all videos; values of separators are ignored unless they are vertices."""

    def __call__(self, tokens: VideoTokens, signals: Signals | None = None) -> Selection:
        """Select tokens.

        Args:
            tokens: one or many videos.
            signals: attention and keys that the method may need, aligned with the tokens.

        Raises:
            StgraphError: features that are not finite, or signals that do not fit or that the method lacks.
        """
        from . import SELECTORS

        start = time.perf_counter()
        signals = signals or Signals()
        signals.check(len(tokens))
        ranking = self.rank(tokens, signals)
        n, device = len(tokens), tokens.device
        if ranking.importance.shape != (n,) or bool(ranking.importance.isnan().any()):
            raise StgraphError(
                f"selector {type(self).__name__} must rank each of {n} tokens with a number, got "
                f"{tuple(ranking.importance.shape)}"
            )
        visual = self.visual(tokens)
        role = ranking.candidate if ranking.candidate is not None else torch.zeros(n, dtype=torch.uint8, device=device)
        keep, margin, budgets = self._fill(ranking, role, visual, tokens)
        if ranking.merge_target is not None:
            merged = ranking.merge_target >= 0
            if bool((merged & keep).any()) or not bool(keep[ranking.merge_target[merged]].all()):
                raise StgraphError(f"selector {type(self).__name__} must merge dropped tokens into kept ones only")
        verdict = torch.where(
            keep,
            torch.where(role > 0, role, int(Verdict.FILLED)),
            torch.where(role > 0, int(Verdict.TRIMMED), int(Verdict.DROPPED)),
        )
        newline = self._separators(keep, tokens)
        verdict = torch.where(visual, verdict, torch.where(newline, int(Verdict.SEPARATOR), int(Verdict.DROPPED)))
        score = torch.where(visual, ranking.importance, 0.0)
        none = torch.full((n,), -1, dtype=torch.int64, device=device)
        zero = torch.zeros(n, dtype=torch.float32, device=device)
        return Selection(
            indices=(keep | newline).nonzero()[:, 0],
            verdict=verdict.to(torch.uint8),
            candidate=torch.where(visual, role, 0).to(torch.uint8),
            community=ranking.community if ranking.community is not None else none,
            centrality=ranking.centrality if ranking.centrality is not None else zero,
            difference=ranking.difference if ranking.difference is not None else zero,
            importance=score.float(),
            margin=margin,
            coords=tokens.coords,
            batch=tokens.batch,
            budget=tuple(budgets),
            method=SELECTORS.config(self),
            seconds={**ranking.seconds, "selection": time.perf_counter() - start},
            notes=ranking.notes,
            merge_target=ranking.merge_target,
            merge_weight=None if ranking.merge_weight is None else torch.where(newline, 1.0, ranking.merge_weight),
        )

    def attach(
        self, model: nn.Module, *, trim: Literal["before", "inside"] = "before", layer: int | None = None
    ) -> Attachment:
        """Prune the video tokens of every call of a video LLM inside a ``with`` block.

        Args:
            model: a transformers model of a supported family, see ``stgraph.models.MODELS``.
            trim: ``"before"``: all tokens that go are dropped before the LLM. ``"inside"``: candidates enter the LLM
                and are trimmed to the budget at one of its layers, by the attention of the last prompt token.
            layer: the first decoder layer without the trimmed tokens, counted from 0. None takes FastV's 2, or the
                first one possible in the family where that is later.

        Raises:
            StgraphError: the model's family has no adapter, or the model is set up in a way that pruning does not fit.
        """
        from ..models import Attachment

        return Attachment(self, model, trim=trim, layer=layer)

    def visual(self, tokens: VideoTokens) -> Tensor:
        """(N,) bool, the tokens that count towards the budget: all but separators, unless these are vertices."""
        return torch.ones_like(tokens.separator) if self.separators == "vertex" else ~tokens.separator

    def _fill(
        self, ranking: Ranking, role: Tensor, visual: Tensor, tokens: VideoTokens
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Exactly the budget of every video: protected ones, then candidates, then the rest, each by importance."""
        tier = (role > 0).to(torch.int64)
        if ranking.protected is not None:
            tier += ranking.protected.to(torch.int64)
        # Stable sorts, least significant first: by index, importance, standing, video; what is no vertex comes last.
        order = torch.sort(ranking.importance, stable=True, descending=True).indices
        order = order[torch.sort(tier[order], stable=True, descending=True).indices]
        group = torch.where(visual, tokens.batch, tokens.num_videos)
        order = order[torch.sort(group[order], stable=True).indices]
        counts = torch.bincount(tokens.batch[visual], minlength=tokens.num_videos).tolist()
        keep = torch.zeros_like(visual)
        margin = torch.zeros(len(visual), dtype=torch.float32, device=visual.device)
        budgets = []
        start = 0
        for count in counts:
            budget = ceil_share(self.retention, count)
            budgets.append(budget)
            members = order[start : start + count]
            keep[members[:budget]] = True
            if count:
                cut = ranking.importance[members[budget - 1]]
                margin[members] = (ranking.importance[members] - cut).float()
            start += count
        return keep, margin, budgets

    def _separators(self, keep: Tensor, tokens: VideoTokens) -> Tensor:
        """(N,) bool, the separators that stay beside the kept visual tokens."""
        stay = torch.zeros_like(keep)
        if self.separators in ("drop", "vertex"):
            return stay
        places = tokens.separator.nonzero()[:, 0]
        if self.separators == "keep" or not len(places):
            return tokens.separator
        # A separator closes the run of tokens before it; the runs that keep most keep theirs.
        kept_so_far = torch.cat([places.new_zeros(1), torch.cumsum(keep, 0)])
        video = tokens.batch[places]
        begins = torch.cat([places.new_zeros(1), places[:-1]])
        begins = torch.maximum(begins, torch.searchsorted(tokens.batch, video))  # not before its video
        order = torch.sort(kept_so_far[places] - kept_so_far[begins], stable=True, descending=True).indices
        order = order[torch.sort(video[order], stable=True).indices]
        begin = 0
        for count in torch.bincount(video, minlength=tokens.num_videos).tolist():
            stay[places[order[begin : begin + ceil_share(self.retention, count)]]] = True
            begin += count
        return stay
