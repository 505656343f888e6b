"""Streams: frames arrive one after the other, tokens leave window by window, memory stays bounded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..encoders.base import Encoded
from ..errors import StgraphError, check_number
from ..tokens import Grid
from .base import Ranking, Selector
from .selection import Selection
from .stream_frames import Block, Frames, cut_tokens, encoded_frames, frame_count, joined_frames, last_frames, windows


@dataclass(frozen=True, eq=False)
class StreamWindow:
    """What one window of a stream releases: of its n tokens, which were judged together, K are kept.

    Attributes:
        number: of the window, from 0.
        first_frame: number of its first frame in the stream.
        first_token: number of its first token in the stream, separators counted.
        grid: (frames, height, width) of the window.
        selection: over the n tokens of the window. Its ``indices`` count from the window's first token; frames in its
            ``coords`` and communities are numbered through the stream.
        features: (K, d) features of the kept tokens, merged where the method merges.
        timestamps: (frames,) float64 seconds, or None when unknown.
        num_separators: how many of its tokens are separators.
        joined: pairs (number, smaller number) of communities that were apart so far and that this window joins: from
            here on both have the smaller number.
    """

    number: int
    first_frame: int
    first_token: int
    grid: Grid
    selection: Selection
    features: Tensor
    timestamps: Tensor | None
    num_separators: int
    joined: tuple[tuple[int, int], ...]

    def __repr__(self) -> str:
        last = self.first_frame + self.grid.frames - 1
        return f"StreamWindow({self.number}, frames {self.first_frame} to {last}, {self.selection!r})"

    @property
    def indices(self) -> Tensor:
        """(K,) int64 kept tokens, numbered through the stream."""
        return self.selection.indices + self.first_token


def stream(
    blocks: Iterable[Block],
    selector: Selector | None = None,
    *,
    window: int = 64,
    context: int = 1,
    newline: bool = False,
) -> Iterator[StreamWindow]:
    """Select tokens while their frames arrive.

    The stream is cut into windows of ``window`` frames, however it is cut into blocks. When a window is full, the
    selector ranks its tokens together with those of the ``context`` frames before it, in one graph, and the tokens of
    the window are released. So a frame waits for at most ``window`` − 1 later ones, every token is judged once, and
    memory is that of ``2 · window + context`` frames however long the stream is. A window that covers the whole stream
    gives what the selector gives offline.

    - **Budget.** After n tokens exactly ⌈r·n⌉ have been kept: a window gets this number less what was kept before. The
      same holds for separators. A method that merges, or that sets its own budget, keeps its number in each window.
    - **Differences** reach back into the context: one frame for temporal edges, 32 for ``difference=drift``. Without
      context the first frame of every window has no past, so nothing in it is an event.
    - **Communities** are those of the graph of context and window, and so are centrality and representatives. A
      community that holds a token of the context keeps the number that this token had, so a number names the same
      community throughout. With connected components and a temporal stride of at most ``context``, they are the
      components of the whole stream once ``joined`` is followed.
    - **Work** is that of ``window + context`` frames for every ``window``. A longer window sees more redundancy and
      costs latency and memory, not time.

    Args:
        blocks: in order of time, each (H, W, d) or (t, H, W, d) features, or :class:`VideoTokens` of one video, or what
            an encoder returns; any t, the same kind, grid, d, dtype and device throughout.
        selector: ST-SimDiff by default.
        window: frames that are judged and released together, ≥ 1; the last window may have fewer.
        context: frames before each window that its graph includes, ≥ 0. Must be 0 for a method that merges or
            sets its own budget.
        newline: the last column of feature grids holds newline tokens, see :meth:`VideoTokens.from_grid`.

    Raises:
        StgraphError: a stream without frames, blocks that do not fit each other, features that are not finite (names
            the frame of the stream), a method that merges with ``context`` > 0, or a
            selector with a number of ``tokens``.
    """
    check_number("window", window, at_least=1, integer=True)
    check_number("context", context, at_least=0, integer=True)
    if selector is None:
        from .simdiff import STSimDiff

        selector = STSimDiff()
    if selector.tokens is not None:
        raise StgraphError(
            f"tokens={selector.tokens} is the number for a whole video, but a stream is selected before its length is "
            "known; give retention in place of tokens"
        )
    return _release(windows(blocks, window), selector, context, newline)


def _release(
    windows: Iterator[list[Frames]], selector: Selector, context: int, newline: bool
) -> Iterator[StreamWindow]:
    past: Frames | None = None
    communities = _Numbers()
    number = frames = tokens = separators = 0
    for parts in windows:
        start = time.perf_counter()
        before = 0 if past is None else frame_count(past)
        seen = joined_frames(parts if past is None else [past, *parts])
        parts.clear()  # from here on the window is held once
        past = last_frames(seen, context)
        whole = encoded_frames(seen, newline)
        del seen
        ranking = _rank(selector, whole, frames - before)
        own_budget = ranking.merge_target is not None or ranking.budget is not None
        if own_budget and context:
            raise StgraphError(
                f"selector {type(selector).__name__} merges tokens or sets their number, which cannot be undone in "
                "frames that the stream has released; give context=0 (on the command line --context 0)"
            )
        own = cut_tokens(whole, before, whole.tokens.grids[0].frames).tokens
        here = slice(len(whole.tokens) - len(own), None)
        settled = (0, 0) if own_budget else (tokens - separators, separators)
        if selector.separators == "vertex":
            settled = (sum(settled), 0)
        selection = selector.settle(own, _rows(ranking, here), settled=settled)
        joined: tuple[tuple[int, int], ...] = ()
        if ranking.community is not None:
            remembered = whole.tokens.coords[:, 0] >= whole.tokens.grids[0].frames - context
            names, joined = communities.follow(ranking.community, remembered)
            selection = replace(selection, community=names[here])
        selection = replace(
            selection,
            coords=selection.coords + selection.coords.new_tensor([frames, 0, 0]),
            seconds={**selection.seconds, "selection": time.perf_counter() - start},
        )
        released = StreamWindow(
            number=number,
            first_frame=frames,
            first_token=tokens,
            grid=own.grids[0],
            selection=selection,
            features=selection.apply(own.features),
            timestamps=None if own.timestamps is None else own.timestamps[0],
            num_separators=own.num_separators,
            joined=joined,
        )
        number, frames, tokens = number + 1, frames + own.grids[0].frames, tokens + len(own)
        separators += released.num_separators
        del whole, own  # released before the caller works on this window and the next one is gathered
        yield released


def _rank(selector: Selector, seen: Encoded, first_frame: int) -> Ranking:
    """The ranking of context and window; what is not finite is named by its frame in the stream."""
    tokens, signals = seen
    signals.check(len(tokens))
    try:
        return selector.rank(tokens, signals)
    except StgraphError:
        bad = (~tokens.features.isfinite().all(1) & selector.visual(tokens)).nonzero()[:, 0]
        if not len(bad):
            raise
        frame = first_frame + int(tokens.coords[bad[0], 0])
        raise StgraphError(
            f"features of frame {frame} of the stream hold NaN or Inf; correct the encoder's output before selecting"
        ) from None


def _rows(ranking: Ranking, rows: slice) -> Ranking:
    """The ranking of some of its tokens; a merging method has no others."""
    values: dict[str, Any] = {
        field.name: value[rows] if isinstance(value := getattr(ranking, field.name), Tensor) else value
        for field in fields(ranking)
    }
    return Ranking(**values)


class _Numbers:
    """Communities of overlapping graphs, numbered through a stream: a union-find that holds only communities of the
    current window and its context.
    """

    def __init__(self) -> None:
        self._past = torch.empty(0, dtype=torch.int64)
        self._free = 0

    def follow(self, labels: Tensor, remembered: Tensor) -> tuple[Tensor, tuple[tuple[int, int], ...]]:
        """Numbers of the communities of context and window.

        Args:
            labels: (n,) int64 communities of this graph, −1 for none; the context first, as remembered last time.
            remembered: (n,) bool, tokens of the next context.

        Returns:
            (n,) int64 numbers, and the pairs (number, smaller number) that turned out to be one community.
        """
        past = self._past.to(labels.device)
        pairs = torch.stack([labels[: len(past)], past])
        leader: dict[int, int] = {}

        def find(number: int) -> int:
            while leader.setdefault(number, number) != number:
                number = leader[number]
            return number

        reached: dict[int, int] = {}
        for label, number in torch.unique(pairs[:, pairs[0] >= 0], dim=1).T.tolist():
            first, second = find(number), find(reached.setdefault(label, number))
            leader[max(first, second)] = min(first, second)
        count = int(labels.max()) + 1 if len(labels) else 0
        names = torch.full((count + 1,), -1, dtype=torch.int64)  # the last one is that of label −1
        old = torch.tensor(sorted(reached), dtype=torch.int64)
        fresh = torch.ones(count + 1, dtype=torch.bool)
        fresh[old], fresh[-1] = False, False
        names[old] = torch.tensor([find(reached[label]) for label in sorted(reached)], dtype=torch.int64)
        names[fresh] = torch.arange(self._free, self._free + int(fresh.sum()))
        self._free += int(fresh.sum())
        numbers = names.to(labels.device)[labels]
        self._past = numbers[remembered]
        return numbers, tuple((number, find(number)) for number in sorted(leader) if find(number) != number)
