"""Selector: the contract of every compression method, and the only place that knows about budgets."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor

from .. import kernels
from ..budget import ceil_share, share_of
from ..errors import StgraphError, check_choice, check_number, plain_number
from ..late_binding import above
from ..registry import build_groups
from ..signals import Signals
from ..tokens import VideoTokens
from .clock import Clock
from .ranking import Ranking, check_budget
from .rounds import EARLY_LAYER, LayerBudget, Round, Rounds, Step, budget_notes, last_step
from .selection import Selection, Verdict, verdict_of

if TYPE_CHECKING:
    from torch import nn

    from ..models.adapter import Adapter
    from ..models.attachment import Attachment

__all__ = ["Clock", "Ranking", "Selector"]


@dataclass(frozen=True, kw_only=True)
class Selector(ABC):
    """A compression method; fields are its parameters, calling it selects.

    The base class owns validation, the exact budget, separators, batching and provenance; a method only ranks. Every
    method keeps exactly ⌈retention · N⌉ visual tokens of each video, or exactly ``tokens``, known before it runs.

    Attributes:
        retention: share of the visual tokens that stay, in (0, 1]. Taken as the decimal number that is meant, so that
            ⌈0.1 · 30⌉ and ⌈(1 − 0.9) · 30⌉ are 3.
        tokens: the exact number of visual tokens that stay of each video, in place of ``retention``. A video that has
            fewer is refused.
        separators: newline tokens are no vertices. ``"proportional"``: of S in a video the same share stays,
            ⌈retention · S⌉, those whose run of tokens keeps most. ``"keep"``: all stay, outside the budget.
            ``"drop"``: none stays.
            ``"vertex"``: they are tokens like any other, as in the authors' release. (:class:`FrameFusion` also
            knows ``"column"``.)
    """

    retention: float = 0.3
    tokens: int | None = None
    separators: Literal["proportional", "keep", "drop", "vertex"] = "proportional"

    SEPARATORS: ClassVar[tuple[str, ...]] = ("proportional", "keep", "drop", "vertex")

    def __post_init__(self) -> None:
        build_groups(self)
        check_number("retention", self.retention, above=0, at_most=1)
        if self.tokens is not None:
            check_number("tokens", self.tokens, at_least=1, integer=True)
        for name in ("retention", "tokens"):
            object.__setattr__(self, name, plain_number(getattr(self, name)))
        check_choice("separators", self.separators, self.SEPARATORS)

    @abstractmethod
    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """Rank the N tokens of all videos; values of separators are ignored unless they are vertices."""

    def prepare(self, tokens: VideoTokens) -> Callable[[Signals], Ranking]:
        """Do all of :meth:`rank` that needs no signals, and return the rest: so it is done once for several signals."""
        return partial(self.rank, tokens)

    def __call__(self, tokens: VideoTokens, signals: Signals | None = None) -> Selection:
        """Select tokens.

        Args:
            tokens: one or many videos.
            signals: attention and keys that the method may need, aligned with the tokens.

        Raises:
            StgraphError: features that are not finite, signals that do not fit or that the method lacks, or a video
                with fewer visual tokens than ``tokens``.
        """
        start = time.perf_counter()
        signals = signals or Signals()
        signals.check(len(tokens))
        selection = self.settle(tokens, self.prepare_by_video(tokens)(signals))
        return replace(selection, seconds={**selection.seconds, "selection": time.perf_counter() - start})

    # -- an exact number of tokens -------------------------------------------------------------------------------------

    def share(self, count: int, video: int = 0) -> float:
        """The share that stays of a video of ``count`` visual tokens: ``retention``, or what ``tokens`` are of them.

        Raises:
            StgraphError: the video has fewer than ``tokens``.
        """
        if self.tokens is None:
            return self.retention
        if count < self.tokens:
            raise StgraphError(
                f"video {video} has {count} visual tokens, fewer than tokens={self.tokens}; ask for at most {count}, "
                "or give retention in place of tokens"
            )
        return share_of(self.tokens, count)

    def by_share(self, tokens: VideoTokens) -> Self:
        """This method with the share that ``tokens`` are of the videos' visual tokens as its ``retention``.

        Raises:
            StgraphError: videos of different sizes, of which one number is not one share; or too small ones.
        """
        if self.tokens is None:
            return self
        counts = self.counts(tokens)
        if len(set(counts)) > 1:
            raise StgraphError(
                f"tokens={self.tokens} needs videos of one size, got {', '.join(map(str, counts))} visual tokens; "
                "select from these videos one at a time"
            )
        return replace(self, tokens=None, retention=self.share(counts[0]))

    def prepare_by_video(self, tokens: VideoTokens) -> Callable[[Signals], Ranking]:
        """:meth:`prepare`, video by video where ``tokens`` is another share of each.

        Raises:
            StgraphError: a video has fewer visual tokens than ``tokens``.
        """
        counts = [] if self.tokens is None else self.counts(tokens)
        shares = [self.share(count, video) for video, count in enumerate(counts)]
        if len(set(counts)) < 2:
            return self.by_share(tokens).prepare(tokens)
        prepared = [
            replace(self, tokens=None, retention=share).prepare(tokens.video(video))
            for video, share in enumerate(shares)
        ]
        rows = [(tokens.batch == video).nonzero()[:, 0] for video in range(tokens.num_videos)]

        def rank(signals: Signals) -> Ranking:
            return Ranking.cat([rank(signals.take(own)) for rank, own in zip(prepared, rows, strict=True)])

        return rank

    def counts(self, tokens: VideoTokens) -> list[int]:
        """Visual tokens of each video."""
        found: list[int] = torch.bincount(tokens.batch[self.visual(tokens)], minlength=tokens.num_videos).tolist()
        return found

    # -- the budget ----------------------------------------------------------------------------------------------------

    def settle(self, tokens: VideoTokens, ranking: Ranking, *, settled: tuple[int, int] = (0, 0)) -> Selection:
        """Keep exactly the budget of every video, by a ranking of its tokens.

        Args:
            tokens: what was ranked.
            ranking: what :meth:`rank` says of them.
            settled: visual tokens and separators of the same video that came before these and have had their budget,
                where a video is settled part by part: of n more after m, ⌈r·(m + n)⌉ − ⌈r·m⌉ stay.

        Raises:
            StgraphError: a ranking that does not fit the tokens.
        """
        from . import SELECTORS

        n, device = len(tokens), tokens.device
        if ranking.importance.shape != (n,) or bool(ranking.importance.isnan().any()):
            raise StgraphError(
                f"selector {type(self).__name__} must rank each of {n} tokens with a number, got "
                f"{tuple(ranking.importance.shape)}"
            )
        visual = self.visual(tokens)
        check_budget(ranking, tokens, visual, type(self).__name__)
        role = ranking.candidate if ranking.candidate is not None else torch.zeros(n, dtype=torch.uint8, device=device)
        keep, margin, budgets = self._fill(ranking, role, visual, tokens, settled[0])
        if ranking.merge_target is not None:
            merged = ranking.merge_target >= 0
            if bool((merged & keep).any()) or not bool(keep[ranking.merge_target[merged]].all()):
                raise StgraphError(f"selector {type(self).__name__} must merge dropped tokens into kept ones only")
        if ranking.blend is not None and not bool(keep[ranking.blend.into].all()):
            raise StgraphError(f"selector {type(self).__name__} must merge tokens into kept ones only")
        verdict = verdict_of(role, keep)
        newline = self._separators(keep, tokens, settled[1])
        score = ranking.importance
        if not bool(visual.all()):
            verdict = torch.where(visual, verdict, torch.where(newline, int(Verdict.SEPARATOR), int(Verdict.DROPPED)))
            score, role = torch.where(visual, score, 0.0), torch.where(visual, role, 0)
        none = torch.full((n,), -1, dtype=torch.int64, device=device)
        zero = torch.zeros(n, dtype=torch.float32, device=device)
        return Selection(
            indices=(keep | newline).nonzero()[:, 0],
            verdict=verdict.to(torch.uint8),
            candidate=role.to(torch.uint8),
            community=ranking.community if ranking.community is not None else none,
            centrality=ranking.centrality if ranking.centrality is not None else zero,
            difference=ranking.difference if ranking.difference is not None else zero,
            importance=score.float(),
            margin=margin,
            coords=tokens.coords,
            batch=tokens.batch,
            budget=tuple(budgets),
            method=SELECTORS.config(self),
            seconds=ranking.seconds,
            notes=ranking.notes,
            merge_target=ranking.merge_target,
            merge_weight=None if ranking.merge_weight is None else torch.where(newline, 1.0, ranking.merge_weight),
            blend=ranking.blend,
        )

    def attach(
        self,
        model: nn.Module,
        *,
        trim: Literal["before", "inside"] | None = None,
        layer: int | None = None,
        adapter: Adapter | None = None,
    ) -> Attachment:
        """Prune the video tokens of every call of a video LLM inside a ``with`` block.

        Args:
            model: a transformers model of a supported family, see ``stgraph.models.MODELS``.
            trim: ``"before"``: all tokens that go are dropped before the LLM. ``"inside"``: the method has its
                :meth:`rounds` in the LLM; most have one, in which their candidates are trimmed to the budget by the
                attention of the last prompt token. None is the method's own place, :attr:`natural_trim`.
            layer: the first decoder layer behind the last round, counted from 0. None takes the method's own,
                :meth:`last_round`.
            adapter: how videos lie in the prompts. None takes that of the model's family, at its defaults.

        Raises:
            StgraphError: the model's family has no adapter, or the model is set up in a way that pruning does not fit.
        """
        attachment: Attachment = above("attachment")(self, model, trim=trim, layer=layer, adapter=adapter)
        return attachment.warn_if_never_started()

    # -- inside a language model ---------------------------------------------------------------------------------------

    @property
    def reads_question(self) -> bool:
        """Whether the selection depends on the question, so that it must be made anew for each."""
        return False

    @property
    def natural_trim(self) -> Literal["before", "inside"]:
        """Where :meth:`attach` prunes when it is not told."""
        return "before"

    def last_round(self, layers: int) -> int:
        """The first of ``layers`` decoder layers behind the last round, where :meth:`attach` is not told."""
        return min(EARLY_LAYER, layers - 1)

    def layer_budget(self, count: int, layers: int) -> LayerBudget:
        """The budget of a video of ``count`` visual tokens in a language model."""
        return LayerBudget("tokens", self.share(count), count, layers)

    def rounds(self, entry: Round, layer: int) -> Rounds:
        """Prune inside a language model: candidates enter it and are trimmed by its attention in one round.

        A video whose candidates do not fill its budget enters whole, as all do for a method without candidates.
        Separators enter too, and leave with the tokens.

        Args:
            entry: the first round, of all N tokens.
            layer: the last round.

        Yields:
            A step for every round that is sent.
        """
        tokens, visual = entry.tokens, self.visual(entry.tokens)
        rank = self.prepare_by_video(tokens)

        def ranked(attention: Tensor) -> Ranking:
            signals = entry.signals.with_llm_attention(attention)
            signals.check(len(tokens))
            return rank(signals)

        def counted(which: Tensor) -> list[int]:
            counts: list[int] = torch.bincount(tokens.batch[which & visual], minlength=tokens.num_videos).tolist()
            return counts

        budgets = [self.layer_budget(count, entry.layers) for count in counted(visual)]
        # Candidates are known before attention is.
        role = ranked(torch.zeros(len(tokens), dtype=torch.float32, device=tokens.device)).candidate
        is_candidate = torch.zeros_like(visual) if role is None else role > 0
        short = [n < budget.at(0, budget.count) for n, budget in zip(counted(is_candidate), budgets, strict=True)]
        enter = is_candidate | ~visual | torch.tensor(short, device=tokens.device)[tokens.batch]
        view = yield Step(enter, layer=layer)
        left = [budget.at(view.layer, n) for n, budget in zip(counted(enter), budgets, strict=True)]
        received = torch.zeros(len(tokens), dtype=torch.float32, device=tokens.device).index_copy(
            0, view.index, view.attention()
        )
        ranking = ranked(received)
        notes = (*ranking.notes, *budget_notes(budgets, left))
        yield last_step(view, self.settle(tokens, replace(ranking, budget=left, notes=notes)))

    def visual(self, tokens: VideoTokens) -> Tensor:
        """(N,) bool, the tokens that count towards the budget: all but separators, unless these are vertices."""
        return torch.ones_like(tokens.separator) if self.separators == "vertex" else ~tokens.separator

    def _fill(
        self, ranking: Ranking, role: Tensor, visual: Tensor, tokens: VideoTokens, settled: int = 0
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Exactly the budget of every video: protected ones, then candidates, then the rest, each by importance."""
        tier = (role > 0).to(torch.uint8)
        if ranking.protected is not None:
            tier += ranking.protected.to(torch.uint8)
        vertices = kernels.places(visual)
        counts = [len(vertices)]
        if tokens.num_videos > 1:
            counts = torch.bincount(kernels.take(tokens.batch, vertices), minlength=tokens.num_videos).tolist()
        keep = torch.zeros_like(visual)
        margin = torch.zeros(len(visual), dtype=torch.float32, device=visual.device)
        budgets: list[int] = []
        start = 0
        for count in counts:
            if ranking.budget is not None:
                budget = ranking.budget[len(budgets)]
            else:
                share = self.share(count, len(budgets))
                budget = ceil_share(share, settled + count) - ceil_share(share, settled)
            budgets.append(budget)
            members = vertices[start : start + count]
            if count:
                importance = kernels.take(ranking.importance, members)
                best, last = kernels.first_of(importance, kernels.take(tier, members), budget)
                keep[members] = best
                margin[members] = (importance - last).float()
            start += count
        return keep, margin, budgets

    def _separators(self, keep: Tensor, tokens: VideoTokens, settled: int = 0) -> Tensor:
        """(N,) bool, the separators that stay beside the kept visual tokens."""
        stay = torch.zeros_like(keep)
        if self.separators in ("drop", "vertex"):
            return stay
        outside = tokens.separator & ~self.visual(tokens)
        places = outside.nonzero()[:, 0]
        if self.separators == "keep" or not len(places):
            return outside
        # A separator closes the run of tokens before it or opens the one after it; the runs that keep most keep theirs.
        kept_so_far = torch.cat([places.new_zeros(1), torch.cumsum(keep, 0)])
        video = tokens.batch[places]
        opens = tokens.coords[places, 1] < 0
        before = torch.cat([places.new_zeros(1), places[:-1]])
        before = torch.maximum(before, torch.searchsorted(tokens.batch, video))  # not before its video
        after = torch.cat([places[1:], places.new_tensor([len(keep)])])
        after = torch.minimum(after, torch.searchsorted(tokens.batch, video, right=True))
        begins, ends = torch.where(opens, places, before), torch.where(opens, after, places)
        order = torch.sort(kept_so_far[ends] - kept_so_far[begins], stable=True, descending=True).indices
        order = order[torch.sort(video[order], stable=True).indices]
        begin = 0
        visual = self.counts(tokens)
        for number, count in enumerate(torch.bincount(video, minlength=tokens.num_videos).tolist()):
            share = self.share(visual[number], number)
            budget = ceil_share(share, settled + count) - ceil_share(share, settled)
            stay[places[order[begin : begin + budget]]] = True
            begin += count
        return stay


def place_of(signal: str | None) -> Literal["before", "inside"]:
    """Where a method that ranks by ``signal`` drops tokens: inside the LLM whose attention it is, or before it."""
    return "inside" if signal == "llm_attention" else "before"
