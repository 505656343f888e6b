"""All levels of vector instructions give the very same bits, and so do all numbers of threads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.kernels import build, fused, library
from stgraph.kernels.library import UnavailableError

from ..strategies import features

DTYPES = [torch.float32, torch.float16, torch.bfloat16]

LEVELS = [level for level in build.LEVELS if level in library.levels()]


@pytest.fixture
def at_level(monkeypatch):
    """Have the fused kernels serve at a level."""

    def force(level: str) -> None:
        monkeypatch.setattr(fused, "library", lambda: library.library(level))

    with kernels.using("fused"):
        yield force


def everything(x: torch.Tensor) -> list[torch.Tensor]:
    """All that kernels make of a (T, H, W, d) grid."""
    frames = len(x)
    norm, left, above, before = fused.lattice(x, frames)
    labels, sizes = fused.lattice_components(left, above, before, 0.7, frames)
    rows, index = x.flatten(0, 2), torch.arange(norm.numel())
    pairs = torch.stack([index[:-1], index.flip(0)[:-1]])
    centrality = fused.community_centrality(rows, norm.flatten(), index, labels, sizes)
    one = fused.community_centrality(rows, norm.flatten(), index, index * 0, torch.tensor([len(index)]))
    ranks = fused.community_ranks(labels, sizes, centrality)
    best = fused.first_of(centrality, (labels % 3).to(torch.uint8), len(index) // 2)
    cosine = fused.edge_cosine(rows, norm.flatten(), index, pairs)
    return [norm, left, above, before, labels, sizes, centrality, one, ranks, *best, cosine, fused.norms(rows, index)]


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 6), st.integers(1, 600)),
    st.integers(0, 10_000),
    st.sampled_from(DTYPES),
    st.sampled_from([1.0, 1e-30, 1e30]),
)
@settings(max_examples=60)
def test_every_level_gives_the_same_bits(shape, seed, dtype, scale):
    x = features(*shape, seed=seed)
    x = (x * (1 if dtype == torch.float16 else scale)).to(dtype)
    with pytest.MonkeyPatch.context() as patch, kernels.using("fused"):
        found = []
        for level in LEVELS:
            patch.setattr(fused, "library", lambda level=level: library.library(level))
            found.append(everything(x))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_a_whole_clip_are_the_same_at_every_level(at_level, dtype):
    """Thousands of weights of long rows: AVX2 and AVX-512 once differed in one of eighty by a step."""
    x = features(12, 14, 14, 896, seed=3, noise=0.6).to(dtype)
    found = []
    for level in LEVELS:
        at_level(level)
        found.append(fused.lattice(x, len(x)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("level", LEVELS)
def test_the_sums_are_those_of_sixteen_lanes(at_level, level):
    """The order of sums, told again in Python: what no level and no compiler may change."""
    at_level(level)
    a, b = torch.randn(2, 700, generator=torch.Generator().manual_seed(5))
    lanes = torch.zeros(16)
    for block in range(0, 700, 256):
        part = torch.zeros(16)
        for start in range(block, min(block + 256, 700), 16):
            end = min(start + 16, 700)
            product = torch.zeros(16)
            product[: end - start] = a[start:end] * b[start:end]
            part = part + product
        lanes = lanes + part
    quad = lanes[:4]
    for k in range(4, 16, 4):
        quad = quad + lanes[k : k + 4]
    q = quad.double()
    dot = float((q[0] + q[1]) + (q[2] + q[3]))
    norm = fused.norms(torch.stack([a, b]), torch.arange(2))
    expected = round(dot / float(norm[0] * norm[1]) * 2**20) / 2**20
    found = fused.edge_cosine(torch.stack([a, b]), norm, torch.arange(2), torch.tensor([[0], [1]]))
    assert float(found) == expected


@pytest.mark.parametrize("level", LEVELS)
def test_the_number_of_threads_changes_no_bit(at_level, level, monkeypatch):
    at_level(level)
    monkeypatch.setattr(fused, "_BYTES_PER_THREAD", 1)
    x = features(9, 12, 13, 37, seed=4)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(everything(x))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)


def test_selections_are_the_same_at_every_level(at_level):
    x = features(8, 9, 10, 300, seed=9, noise=0.6)
    digests = set()
    for level in LEVELS:
        at_level(level)
        digests.add(STSimDiff()(VideoTokens.from_grid(x)).digest)
    assert len(digests) == 1


def test_a_level_that_this_processor_lacks_is_refused():
    with pytest.raises(UnavailableError, match=r"this machine has no instruction set neon; it has baseline"):
        library.library("neon")
    with pytest.raises(StgraphError, match="kernels must be one of"):
        kernels.use("avx2")
