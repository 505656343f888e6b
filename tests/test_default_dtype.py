"""Torch's default dtype changes nothing: every registered method finds the same under any of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from stgraph import Signals, STSimDiff, Video, VideoTokens, build_graph
from stgraph.community import COMMUNITIES
from stgraph.difference import DIFFERENCES
from stgraph.encoders import ENCODERS
from stgraph.graph import SpatioTemporalGraph
from stgraph.importance import IMPORTANCES, Evidence
from stgraph.selectors import SELECTORS
from stgraph.selectors.metrics import evaluate

DTYPES = (torch.bfloat16, torch.float16, torch.float64)
SHAPE = (6, 4, 5)

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float32, generator=torch.Generator().manual_seed(seed))


@cache
def tokens() -> VideoTokens:
    """Two videos with a separator after each row, a still picture in which a part moves."""
    frames, height, width = SHAPE
    grid = numbers(1, height, width + 1, 16).expand(frames, -1, -1, -1).clone()
    grid[:, 1:3, 1:3] += numbers(frames, 2, 2, 16, seed=1)
    parts = [
        VideoTokens.from_sequence(x.flatten(0, 2), SHAPE, separator_layout="row")  # type: ignore[arg-type]
        for x in (grid, grid.flip(0))
    ]
    return VideoTokens.cat(parts)


@cache
def signals() -> Signals:
    n = len(tokens())
    return Signals(numbers(n, seed=2).sigmoid(), numbers(n, 8, seed=3), numbers(n, seed=4).sigmoid())


@cache
def alone() -> VideoTokens:
    return VideoTokens.from_grid(tokens().features[: 6 * 4 * 6].view(6, 4, 6, 16))


def graph() -> SpatioTemporalGraph:
    return build_graph(alone()).prune(0.1)


def found(value: Any) -> dict[str, Any]:
    """Tensors of a result by name, with their dtypes."""
    named = (
        {field.name: getattr(value, field.name) for field in fields(value)}
        if not isinstance(value, Tensor)
        else {"": value}
    )
    return {name: (x.dtype, x) for name, x in named.items() if isinstance(x, Tensor)}


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for name, (dtype, x) in one.items():
        assert two[name][0] == dtype, name
        assert torch.equal(two[name][1], x), name


@dtypes
@pytest.mark.parametrize("name", list(SELECTORS))
def test_selectors(name, dtype):
    method = SELECTORS.build({"name": name, "retention": 0.3})
    expected = method(tokens(), signals())
    with default(dtype):
        selection = SELECTORS.build({"name": name, "retention": 0.3})(tokens(), signals())
        assert evaluate(tokens(), selection) == evaluate(tokens(), expected)
    assert selection.digest == expected.digest
    assert_same(found(expected), found(selection))


@dtypes
@pytest.mark.parametrize("name", list(COMMUNITIES))
def test_communities(name, dtype):
    expected = COMMUNITIES.build(name)(graph())
    with default(dtype):
        assert_same(found(expected), found(COMMUNITIES.build(name)(graph())))


@dtypes
@pytest.mark.parametrize("name", list(DIFFERENCES))
def test_differences(name, dtype):
    expected = DIFFERENCES.build(name)(graph())
    with default(dtype):
        assert_same(found(expected), found(DIFFERENCES.build(name)(graph())))


def evidence() -> Evidence:
    analysis = STSimDiff().analyse(alone())
    candidate = analysis.representative | analysis.difference.marked
    known = signals().take(torch.arange(len(alone())))
    return Evidence(
        analysis.graph, analysis.partition, analysis.centrality, analysis.difference, candidate, analysis.rank, known
    )


@dtypes
@pytest.mark.parametrize("name", list(IMPORTANCES))
def test_importances(name, dtype):
    expected = IMPORTANCES.build(name)(evidence())
    with default(dtype):
        assert_same(found(expected), found(IMPORTANCES.build(name)(evidence())))


@dtypes
def test_encoders(dtype):
    pixels = (numbers(4, 3, 32, 48).sigmoid() * 255).to(torch.uint8)
    video = Video(pixels, torch.arange(4, dtype=torch.float64) / 2)
    for name in set(ENCODERS) - {"hf"}:  # a model of transformers: its own dtype decides
        expected = ENCODERS.build(name)(video).tokens
        with default(dtype):
            assert_same(found(expected), found(ENCODERS.build(name)(video).tokens))
