"""The frames of a stream: blocks of any size in, runs of one window out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from ..encoders.base import Encoded
from ..errors import StgraphError
from ..signals import Signals
from ..tokens import VideoTokens

Block = Tensor | VideoTokens | Encoded
"""Some frames of a stream: (H, W, d) or (t, H, W, d) features, the tokens of one video, or what an encoder returns."""

Frames = Tensor | Encoded
"""The same inside a stream: a (t, H, W, d) grid, or tokens with their signals."""


def windows(blocks: Iterable[Block], window: int) -> Iterator[list[Frames]]:
    """The same frames in runs of ``window``, each as the pieces that it came in."""
    parts: list[Frames] = []
    expected: tuple[object, ...] | None = None
    arrived = gathered = 0
    for block in blocks:
        frames = _checked(block, arrived)
        layout = _layout(frames)
        if expected is not None and layout != expected:
            raise StgraphError(
                f"all blocks of a stream must be alike: frame {arrived} comes as {_words(layout)}, those before it as "
                f"{_words(expected)}"
            )
        expected = layout
        taken, length = 0, frame_count(frames)
        arrived += length
        while taken < length:
            end = min(taken + window - gathered, length)
            parts.append(_cut(frames, taken, end))
            gathered, taken = gathered + end - taken, end
            if gathered == window:
                yield parts
                parts, gathered = [], 0
    if expected is None:
        raise StgraphError("the stream holds no frames; give at least one")
    if parts:
        yield parts


def _checked(block: Block, frame: int) -> Frames:
    if isinstance(block, Tensor) and block.ndim in (3, 4) and block.numel():
        return block if block.ndim == 4 else block[None]
    encoded = Encoded(block, Signals()) if isinstance(block, VideoTokens) else block
    if isinstance(encoded, Encoded) and encoded.tokens.num_videos == 1:
        return encoded
    got = tuple(block.shape) if isinstance(block, Tensor) else type(block).__name__
    raise StgraphError(
        f"a stream takes (H, W, d) or (t, H, W, d) features, or VideoTokens of one video; at frame {frame} it got {got}"
    )


def _layout(frames: Frames) -> tuple[object, ...]:
    if isinstance(frames, Tensor):
        return (*frames.shape[1:], frames.dtype, frames.device, "features")
    x, grid = frames.tokens.features, frames.tokens.grids[0]
    return (*grid[1:], x.shape[1], x.dtype, x.device, " and ".join(["VideoTokens", *_given(frames.signals)]))


def _words(layout: tuple[object, ...]) -> str:
    *size, dtype, device, kind = layout
    return f"{'×'.join(map(str, size))} {str(dtype).removeprefix('torch.')} on {device} ({kind})"


def frame_count(frames: Frames) -> int:
    """Number of frames."""
    return len(frames) if isinstance(frames, Tensor) else frames.tokens.grids[0].frames


def _cut(frames: Frames, start: int, stop: int) -> Frames:
    """Frames start to stop, as a view."""
    return frames[start:stop] if isinstance(frames, Tensor) else cut_tokens(frames, start, stop)


def cut_tokens(frames: Encoded, start: int, stop: int) -> Encoded:
    """Frames start to stop of tokens and their signals, as views."""
    tokens, signals = frames
    grid = tokens.grids[0]
    if (start, stop) == (0, grid.frames):
        return frames
    bounds = torch.tensor([start, stop], device=tokens.device)
    rows = slice(*torch.searchsorted(tokens.coords[:, 0].contiguous(), bounds).tolist())
    part = VideoTokens(
        tokens.features[rows],
        tokens.coords[rows] - tokens.coords.new_tensor([start, 0, 0]),
        tokens.batch[rows],
        tokens.separator[rows],
        (grid._replace(frames=stop - start),),
        None if tokens.timestamps is None else (tokens.timestamps[0][start:stop],),
    )
    given = {name: value[rows] for name, value in _given(signals).items()}
    return Encoded(part, Signals(**given))  # type: ignore[arg-type]


def last_frames(frames: Frames, count: int) -> Frames | None:
    """A copy of the last frames. A view would keep all frames in memory."""
    if not count:
        return None
    last = _cut(frames, max(frame_count(frames) - count, 0), frame_count(frames))
    if isinstance(last, Tensor):
        return last.clone()
    tokens = replace(last.tokens, features=last.tokens.features.clone())
    given = {name: value.clone() for name, value in _given(last.signals).items()}
    return Encoded(tokens, Signals(**given))  # type: ignore[arg-type]


def joined_frames(parts: list[Frames]) -> Frames:
    """Pieces of one layout, one after the other in time."""
    if len(parts) == 1:
        return parts[0]
    grids = [part for part in parts if isinstance(part, Tensor)]
    if grids:
        return torch.cat(grids)
    encoded = [part for part in parts if isinstance(part, Encoded)]
    tokens = [part.tokens for part in encoded]
    starts = list(itertools.accumulate((t.grids[0].frames for t in tokens), initial=0))
    known = all(t.timestamps is not None for t in tokens)
    together = VideoTokens(
        torch.cat([t.features for t in tokens]),
        torch.cat([t.coords + t.coords.new_tensor([at, 0, 0]) for t, at in zip(tokens, starts, strict=False)]),
        torch.cat([t.batch for t in tokens]),
        torch.cat([t.separator for t in tokens]),
        (tokens[0].grids[0]._replace(frames=starts[-1]),),
        (torch.cat([t.timestamps[0] for t in tokens if t.timestamps]),) if known else None,
    )
    names = _given(encoded[0].signals)
    joined = {name: torch.cat([_given(p.signals)[name] for p in encoded]) for name in names}
    return Encoded(together, Signals(**joined))  # type: ignore[arg-type]


def encoded_frames(frames: Frames, newline: bool) -> Encoded:
    """Frames as tokens with their signals; with ``newline`` the last column holds newline tokens."""
    if isinstance(frames, Encoded):
        return frames
    return Encoded(VideoTokens.from_grid(frames, newline=newline), Signals())


def _given(signals: Signals) -> dict[str, Tensor]:
    """The signals of each token that are there; a question is of no frame."""
    names = [f.name for f in fields(signals) if f.name != "question"]
    return {name: value for name in names if (value := getattr(signals, name)) is not None}
