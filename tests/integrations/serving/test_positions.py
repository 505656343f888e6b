"""Positions of pruned prompts by brute force: the full prompt's, with the columns of dropped tokens deleted."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import StgraphError
from stgraph.integrations.serving.positions import COLUMNS, expand, initial, pack, unpack, write

TEXT, VIDEO = 1, 9


def grid_positions(shape, step):
    t, h, w = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    return torch.stack([(t * step).long(), h, w]).flatten(1)


def full_prompt(parts):
    """Positions as Qwen2.5-VL has them: text counts on from the largest position so far, grids start there.

    ``parts`` are numbers of text tokens or ((t, h, w), seconds of a step).
    """
    columns, spans, position, row = [], [], 0, 0
    for part in parts:
        if isinstance(part, int):
            columns.append((torch.arange(part) + position).expand(3, part))
            count, position = part, position + part
        else:
            block = grid_positions(*part) + position
            columns.append(block)
            count, position = block.shape[1], int(block.max()) + 1
            spans.append((row, count))
        row += count
    return torch.cat(columns, 1), spans


shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
videos = st.tuples(shapes, st.sampled_from([1.0, 0.5, 2.0, 1.5]))
prompts = st.lists(videos, min_size=1, max_size=3).flatmap(
    lambda items: st.lists(st.integers(1, 5), min_size=len(items) + 1, max_size=len(items) + 1).map(
        lambda texts: [part for pair in zip(texts, items, strict=False) for part in pair] + [texts[-1]]
    )
)


@given(prompts, st.data())
def test_whole_or_in_any_chunks_positions_are_the_full_ones_with_columns_deleted(parts, data):
    full, full_spans = full_prompt(parts)
    keeps = []
    for _, count in full_spans:
        keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
        keep[data.draw(st.integers(0, count - 1))] = True
        keeps.append(keep)
    stay = torch.ones(full.shape[1], dtype=torch.bool)
    for (first, count), keep in zip(full_spans, keeps, strict=True):
        stay[first : first + count] = keep
    expected = full[:, stay]

    rows = torch.cumsum(stay, 0) - stay.long()
    spans = [(int(rows[first]), int(keep.sum())) for (first, _), keep in zip(full_spans, keeps, strict=True)]
    positions, items = initial(full, spans, full_spans)
    assert positions.shape == expected.shape
    places = [
        (full[:, first : first + count] - full[0, first])[:, keep].T
        for (first, count), keep in zip(full_spans, keeps, strict=True)
    ]
    total = positions.shape[1]
    cuts = sorted({0, total, *data.draw(st.lists(st.integers(0, total), max_size=4))})
    for start, end in itertools.pairwise(cuts):
        chunks = []
        for item, of_item in zip(items, places, strict=True):
            numbered = torch.cat([torch.arange(len(of_item))[:, None], of_item], 1)
            inside = numbered[max(start - item.offset, 0) : max(end - item.offset, 0)]
            if len(inside):
                columns = pack(inside, torch.bfloat16)
                assert columns.shape == (len(inside), COLUMNS)
                chunks.append(unpack(columns))
        positions = write(positions, items, chunks, start)
    assert torch.equal(positions, expected)


@given(st.lists(st.tuples(*[st.integers(0, (1 << 24) - 1)] * 4), min_size=1))
def test_numbers_survive_half_precision(numbers):
    numbers = torch.tensor(numbers)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert torch.equal(unpack(pack(numbers, dtype)), numbers)


def test_numbers_out_of_range():
    with pytest.raises(StgraphError, match="from 0 to 2²⁴ − 1, got 0 to 16777216"):
        pack(torch.tensor([[0, 1, 2, 1 << 24]]), torch.bfloat16)


def test_the_full_prompt():
    tokens = [TEXT, VIDEO, VIDEO, TEXT, TEXT, VIDEO]
    full, offsets = expand(tokens, [(1, 2), (5, 1)], [[VIDEO] * 4, [VIDEO] * 3])
    assert full == [TEXT, *[VIDEO] * 4, TEXT, TEXT, *[VIDEO] * 3]
    assert offsets == [1, 7]


def numbered(count, row=0):
    return torch.cat([torch.arange(row, row + count)[:, None], torch.zeros(count, 3, dtype=torch.int64)], 1)


def test_a_chunk_that_comes_again_and_one_that_begins_later():
    """After a preemption a prompt is computed anew; a drafter looks one row ahead, past the end of the first item."""
    full, spans = full_prompt([2, ((2, 2, 2), 1.0), 1, ((1, 2, 2), 1.0), 3])
    positions, items = initial(full, [(2, 8), (11, 4)], spans)
    places = [torch.cat([numbered(n)[:, :1], (full[:, s : s + n] - full[0, s]).T], 1) for s, n in spans]
    half = write(positions, items, [places[0][:5]], 0)
    assert torch.equal(write(half, items, places, 0), full)
    ahead = write(write(half, items, [places[0][5:]], 7), items, [places[1]], 9)
    assert torch.equal(ahead, full)
    assert torch.equal(write(full, items, [places[0][:0]], 0), full)


@pytest.mark.parametrize(
    ("chunks", "start"),
    [([numbered(4), numbered(1)], 0), ([numbered(5)], 0), ([numbered(2, 3)], 0), ([numbered(1)], 3)],
)
def test_chunks_that_do_not_fit(chunks, start):
    full, spans = full_prompt([2, ((2, 2, 2), 1.0), 3])
    positions, items = initial(full, [(2, 4)], spans)
    with pytest.raises(StgraphError, match=f"no image or video from row {start} of the prompt on has room for"):
        write(positions, items, chunks, start)
