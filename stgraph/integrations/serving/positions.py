"""Rotary positions of a pruned prompt: those of the full prompt, with the columns of the dropped tokens deleted.

A server with multimodal rotary positions (M-RoPE) makes the positions of a prompt before it knows which tokens of a
video stay. Text positions do not depend on that: a video takes up the same span of positions whatever stays of it. So
they are right from the start (:func:`initial`). The tokens that stay bring their own places along, as extra columns of
their embedding (:func:`pack`). They are written where they lie in the prompt (:func:`write`), whole or chunk by chunk.

A number is three bytes, each a column of its own, because bfloat16 holds whole numbers exactly up to 256 only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import StgraphError

#: Columns that :func:`pack` adds to an embedding: three bytes for each of row, time, height and width.
COLUMNS = 12


class Item(NamedTuple):
    """Where an image or a video lies.

    Attributes:
        offset: its first row in the pruned prompt.
        length: its rows there.
        base: the position of its first row in the full prompt; places of its tokens count from there.
    """

    offset: int
    length: int
    base: int


def expand(
    tokens: Sequence[int], spans: Sequence[tuple[int, int]], full: Sequence[Sequence[int]]
) -> tuple[list[int], list[int]]:
    """The full prompt.

    Args:
        tokens: of the pruned prompt.
        spans: (first row, rows) of each image or video in it, ascending.
        full: the tokens of each in the full prompt.

    Returns:
        The tokens of the full prompt, and the first row of each image or video in it.
    """
    prompt: list[int] = []
    offsets = []
    end = 0
    for (offset, length), item in zip(spans, full, strict=True):
        prompt += tokens[end:offset]
        offsets.append(len(prompt))
        prompt += item
        end = offset + length
    return [*prompt, *tokens[end:]], offsets


def initial(
    full: Tensor, spans: Sequence[tuple[int, int]], full_spans: Sequence[tuple[int, int]]
) -> tuple[Tensor, tuple[Item, ...]]:
    """Positions of a pruned prompt in which all text is right and every image or video waits for :func:`write`.

    Args:
        full: (3, F) int64, positions of the full prompt.
        spans: (first row, rows) of each image or video in the pruned prompt, ascending.
        full_spans: the same in the full prompt.

    Returns:
        (3, N) int64, and the items. Rows of an item hold its base until they are written.
    """
    parts, items = [], []
    end = 0
    for (offset, length), (full_offset, full_length) in zip(spans, full_spans, strict=True):
        parts.append(full[:, end:full_offset])
        base = int(full[0, full_offset])
        parts.append(torch.full((3, length), base, dtype=full.dtype, device=full.device))
        items.append(Item(offset, length, base))
        end = full_offset + full_length
    parts.append(full[:, end:])
    return torch.cat(parts, 1), tuple(items)


def pack(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Whole numbers as columns that any floating-point type of 8 bits of precision holds exactly.

    Args:
        numbers: (n, 4) from 0 to 2²⁴ − 1: the row of a token inside its item, and its time, height and width from the
            item's base.
        dtype: of the embedding.

    Returns:
        (n, 12) of that dtype: three bytes of each, the high one first.

    Raises:
        StgraphError: a number outside that range.
    """
    if len(numbers):
        least, most = int(numbers.min()), int(numbers.max())
        if least < 0 or most >> 24:
            raise StgraphError(f"rows and places must be from 0 to 2²⁴ − 1, got {least} to {most}")
    return torch.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], 2).flatten(1).to(dtype)


def unpack(columns: Tensor) -> Tensor:
    """The inverse of :func:`pack`: (n, 12) to (n, 4) int64."""
    high, middle, low = columns.to(torch.int64).unflatten(1, (4, 3)).unbind(2)
    numbers: Tensor = high << 16 | middle << 8 | low
    return numbers


def write(positions: Tensor, items: Sequence[Item], chunks: Sequence[Tensor], start: int) -> Tensor:
    """The positions after some tokens have arrived with their places.

    Args:
        positions: (3, N) int64.
        items: of the prompt, ascending.
        chunks: (n, 4) consecutive rows of an item with their places, in the order of the items. Any part of an item
            may come, and come again.
        start: rows before this one are not among them.

    Returns:
        (3, N) int64, a copy.

    Raises:
        StgraphError: a chunk that no item of the prompt has room for.
    """
    written = positions.clone()
    left = iter(items)
    for chunk in chunks:
        if not len(chunk):
            continue
        row, count = int(chunk[0, 0]), len(chunk)
        for item in left:
            if item.offset + row >= start and row + count <= item.length:
                break
        else:
            raise StgraphError(
                f"no image or video from row {start} of the prompt on has room for {count} tokens from its row {row} on"
            )
        first = item.offset + row
        written[:, first : first + count] = chunk[:, 1:].T.to(written.device) + item.base
    return written
