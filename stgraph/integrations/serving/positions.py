"""Rotary positions of a pruned prompt: those of the full prompt, with the columns of the dropped tokens deleted.

A server with multimodal rotary positions (M-RoPE) makes the positions of a prompt before it knows which tokens of a
video stay. Text positions do not depend on that: a video takes up the same span of positions whatever stays of it. So
they are right from the start (:func:`initial`). The tokens that stay bring their own places along, as extra columns of
their embedding (:func:`pack`). They are written where they lie in the prompt (:func:`write`), whole or chunk by chunk.

A place is two bytes, each a column of its own, because bfloat16 holds whole numbers exactly up to 256 only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import StgraphError

#: Columns that :func:`pack` adds to an embedding: two bytes for each of time, height and width.
COLUMNS = 6


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


def pack(places: Tensor, dtype: torch.dtype) -> Tensor:
    """Places as columns that any floating-point type of 8 bits of precision holds exactly.

    Args:
        places: (n, 3) whole numbers from 0 to 65,535: time, height, width from the item's base.
        dtype: of the embedding.

    Returns:
        (n, 6) of that dtype: high and low byte of each.

    Raises:
        StgraphError: a place outside that range.
    """
    if len(places) and not 0 <= int(places.min()) <= int(places.max()) < 1 << 16:
        raise StgraphError(f"places must be from 0 to 65535, got {int(places.min())} to {int(places.max())}")
    high = torch.div(places, 256, rounding_mode="floor")
    return torch.stack([high, places - 256 * high], 2).flatten(1).to(dtype)


def unpack(columns: Tensor) -> Tensor:
    """The inverse of :func:`pack`: (n, 6) to (n, 3) int64."""
    pairs = columns.to(torch.int64).unflatten(1, (3, 2))
    places: Tensor = 256 * pairs[..., 0] + pairs[..., 1]
    return places


def write(positions: Tensor, items: Sequence[Item], chunks: Sequence[Tensor], start: int) -> Tensor:
    """The positions after some tokens have arrived with their places.

    Args:
        positions: (3, N) int64.
        items: of the prompt, ascending.
        chunks: (n, 3) places of the tokens of each item that has rows from ``start`` on, in order, as many items as
            there are chunks. A chunk begins at ``start`` or at the beginning of its item.
        start: rows before this one are done.

    Returns:
        (3, N) int64, a copy.

    Raises:
        StgraphError: more chunks than items, or a chunk longer than its item.
    """
    written = positions.clone()
    open_items = [item for item in items if item.offset + item.length > start]
    if len(chunks) > len(open_items):
        raise StgraphError(f"{len(chunks)} chunks of images and videos for {len(open_items)} that are left to write")
    for item, places in zip(open_items, chunks, strict=False):
        first = max(item.offset, start)
        last = first + len(places)
        if last > item.offset + item.length:
            raise StgraphError(
                f"a chunk of {len(places)} tokens from row {first} on reaches beyond rows {item.offset} to "
                f"{item.offset + item.length - 1} of its image or video"
            )
        written[:, first:last] = places.T.to(written.device) + item.base
    return written
