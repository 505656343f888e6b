"""A method's rounds inside the language model: what stays from which layer on, and what is merged where."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..errors import StgraphError
from ..selectors.base import Selector
from ..selectors.rounds import Round, Rounds, Step, last_step, sums_of
from ..selectors.selection import Selection
from ..signals import Signals
from ..tokens import VideoTokens
from .cut import Cut

_BLOCK = 256
"""Columns that are summed at a time."""


class Merge(NamedTuple):
    """Columns that become weighted sums of columns.

    Attributes:
        rows: (h,) of the columns that change.
        columns: (h,) those columns.
        sources: (m,) columns that are summed, in the same rows as what they go into.
        into: (m,) which of the h columns each goes into.
        weight: (m,) float32.
    """

    rows: Tensor
    columns: Tensor
    sources: Tensor
    into: Tensor
    weight: Tensor

    @classmethod
    def of(cls, step: Step, rows: Tensor, columns: Tensor, copies: int) -> Merge | None:
        """What a step merges of the tokens at ``rows`` and ``columns``, in each copy of a row; None for nothing."""
        blend = sums_of(step)
        if blend is None:
            return None
        heads, into = blend.into.unique(return_inverse=True)
        copy = torch.arange(copies, device=columns.device)[:, None]
        return cls(
            (rows[heads] + copy).flatten(),
            columns[heads].repeat(copies),
            columns[blend.source].repeat(copies),
            (into + len(heads) * copy).flatten(),
            blend.weight.repeat(copies),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(h, d) float32 sums of the columns of ``x`` (B, S, d), a block at a time."""
        sums = x.new_zeros((len(self.columns), x.shape[2]), dtype=torch.float32)
        parts = (self.rows[self.into], self.sources, self.into, self.weight)
        for rows, columns, into, weight in zip(*(y.to(x.device).split(_BLOCK) for y in parts), strict=True):
            sums.index_add_(0, into, x[rows, columns].float() * weight[:, None])
        return sums

    def put(self, x: Tensor, cut: Cut | None) -> Tensor:
        """``x`` (B, S, d) with the sums in their columns, and then cut."""
        columns = self.columns if cut is None else cut.places()[self.rows, self.columns]
        out = x.clone() if cut is None else cut.take(x)
        return out.index_put_((self.rows.to(x.device), columns.to(x.device)), self(x).to(x.dtype))

    def put_(self, x: Tensor) -> None:
        """``x`` with the sums in their columns, in place."""
        x.index_put_((self.rows.to(x.device), self.columns.to(x.device)), self(x).to(x.dtype))


class Stage(NamedTuple):
    """What stays from one layer on.

    Attributes:
        layer: the first one.
        step: the cut of the columns that were there before.
        total: the cut of the columns that entered the language model.
    """

    layer: int
    step: Cut
    total: Cut


@dataclass(eq=False)
class Pruning:
    """A selector at work on one batch of prompts, from the entry of the language model to its last round.

    Attributes:
        selector: the method.
        tokens: the N tokens that enter, features are embeddings.
        signals: of the encoder.
        rows: (n,) the row of each token that is left, the first of its copies.
        columns: (n,) its column there.
        copies: rows of each prompt, one after the other.
        layers: number of decoder layers.
        last: the last round; 0 where all happens before the language model.
        text: row and columns of the text behind each video, in the first copy of its row.
        due: the next round.
        selection: what became of the tokens, once the method has finished.
    """

    selector: Selector
    tokens: VideoTokens
    signals: Signals
    rows: Tensor
    columns: Tensor
    copies: int
    layers: int
    last: int
    text: Sequence[tuple[int, Tensor]] = ()
    due: int = 0
    selection: Selection | None = None

    def __post_init__(self) -> None:
        self._index = torch.arange(len(self.tokens), device=self.tokens.device)
        self._counts: list[tuple[int, Tensor]] = []
        self._rounds: Rounds | None = None
        self._seconds = 0.0

    def round(
        self,
        hidden: Tensor,
        there: Tensor,
        attention: Callable[[], Tensor] | None = None,
        of_columns: Callable[[int, Tensor], Tensor] | None = None,
    ) -> tuple[Cut | None, Merge | None]:
        """The round that is due: what is cut out, and what is merged before that; None where nothing is.

        Args:
            hidden: (B, S, d) behind the attention of the layer before, or the embeddings.
            there: (B, S) bool, False for padding.
            attention: gives the (B, S) attention of the last prompt token in the layer before; None in round 0.
            of_columns: gives the (m, S) attention of columns (m,) of a row there; None in round 0.
        """
        start = time.perf_counter()
        step = self._ask(hidden, attention, of_columns)
        self._seconds += time.perf_counter() - start
        merge = Merge.of(step, self.rows, self.columns, self.copies)
        cut = self._drop(step.keep, there.to(step.keep.device))
        self._counts.append((self.due, self._visual_counts()))
        if step.selection is not None:
            if len(step.selection) != len(self._index):
                raise StgraphError(
                    f"selector {type(self.selector).__name__} selects {len(step.selection)} tokens, but its rounds "
                    f"kept {len(self._index)}; the final selection must be the tokens that all rounds kept"
                )
            seconds = {**step.selection.seconds, "selection": self._seconds}
            self.selection = replace(step.selection, seconds=seconds)
        elif self.due >= self.last:
            raise StgraphError(
                f"selector {type(self.selector).__name__} must finish with a selection in its last round"
            )
        self.due = min(max(step.layer, self.due + 1), self.last)
        return cut, merge

    @property
    def tokens_per_layer(self) -> tuple[tuple[int, ...], ...]:
        """How many visual tokens of each video enter each layer, once the method has finished."""
        counts = [next(c for since, c in reversed(self._counts) if since <= layer) for layer in range(self.layers)]
        return tuple(map(tuple, torch.stack(counts, 1).tolist()))

    def _ask(
        self,
        hidden: Tensor,
        attention: Callable[[], Tensor] | None,
        of_columns: Callable[[int, Tensor], Tensor] | None,
    ) -> Step:
        tokens, index, device = self.tokens, self._index, self.tokens.device

        def own(x: Tensor) -> Tensor:
            return x[self.rows.to(x.device), self.columns.to(x.device)].to(device)

        if attention is None or of_columns is None:
            view = Round(tokens, index, self.signals, 0, self.layers, last=not self.last, attention=_no_attention)
            if not self.last:
                return last_step(view, self.selector(tokens, self.signals))
            self._rounds = self.selector.rounds(view, self.last)
            return next(self._rounds)
        left = replace(
            tokens,
            features=own(hidden),
            coords=tokens.coords[index],
            batch=tokens.batch[index],
            separator=tokens.separator[index],
        )
        signals, last = self.signals.take(index), self.due >= self.last
        view = Round(
            left,
            index,
            signals,
            self.due,
            self.layers,
            last=last,
            attention=cache(lambda: own(attention())),
            attention_of_text=partial(self._of_text, left.batch, of_columns),
        )
        return cast("Rounds", self._rounds).send(view)

    def _of_text(self, batch: Tensor, of_columns: Callable[[int, Tensor], Tensor], video: int, which: Tensor) -> Tensor:
        """See :attr:`Round.attention_of_text`."""
        row, columns = self.text[video]
        received = of_columns(row, columns[which.to(columns.device)]).mean(0)
        return received[self.columns[batch == video].to(received.device)].to(batch.device)

    def _drop(self, keep: Tensor, there: Tensor) -> Cut | None:
        stay = there.clone()
        for copy in range(self.copies):
            stay[self.rows + copy, self.columns] &= keep
        self._index, self.rows, self.columns = self._index[keep], self.rows[keep], self.columns[keep]
        if torch.equal(stay, there):
            return None
        cut = Cut.of(stay)
        places = cut.places()
        self.columns = places[self.rows, self.columns]
        self.text = [(row, places[row, columns.to(places.device)]) for row, columns in self.text]
        return cut

    def _visual_counts(self) -> Tensor:
        visual = self.selector.visual(self.tokens)[self._index]
        return torch.bincount(self.tokens.batch[self._index][visual], minlength=self.tokens.num_videos)


def _no_attention() -> Tensor:
    raise StgraphError("there is no attention before the first layer of the language model; read it in a later round")
