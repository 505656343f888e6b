"""Grids of tokens: videos that follow each other, components, ranks, and sums of equal rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import VideoTokens, build_graph, kernels
from stgraph.community.components import ConnectedComponents
from stgraph.kernels import fused, reference

from ..strategies import features

SIZES = [
    (6, 8, 9, 16),  # one tile
    (20, 9, 5, 8),  # tiles of eight frames
    (5, 3, 40, 3000),  # rows cut in two, two frames at a time
    (9, 40, 30, 8),  # frames cut between rows
    (1, 30, 12, 24),
    (3, 5, 600, 4),  # rows as long as a tile may be large
    (33, 1, 7, 12),
]


@pytest.fixture(autouse=True)
def _fused(monkeypatch):
    monkeypatch.setattr(fused, "_BYTES_PER_THREAD", 1)
    with kernels.using("fused"):
        yield


@pytest.mark.parametrize("shape", SIZES)
def test_tiles_hang_together(shape):
    """However a grid is cut into tiles, all edges are those of the reference kernels."""
    x = features(*shape, seed=1)
    norm, *cosines = fused.lattice(x, shape[0])
    expected_norm, expected = reference.lattice_cosine(x, fused.PAPER_OFFSETS)
    assert torch.allclose(norm, expected_norm, rtol=1e-6, atol=0)
    for offset, found, wanted in zip(fused.PAPER_OFFSETS, cosines, expected, strict=True):
        inside = kernels.edge_ends(found, offset)[1]
        assert bool(((inside - wanted).abs() <= kernels.GRID).all())
        assert float(found.abs().sum()) == pytest.approx(float(inside.abs().sum())), "0 where there is no neighbour"


@pytest.mark.parametrize("shape", [(5, 3, 5, 6), SIZES[0], SIZES[2]])
def test_videos_that_follow_each_other_are_as_one_by_one(shape):
    videos = [features(*shape, seed=seed, kinds=2) for seed in range(3)]
    norm, *cosines = fused.lattice(torch.cat(videos), shape[0])
    labels, sizes = fused.lattice_components(*cosines, 0.8, shape[0])
    numbers, count = 0, norm[: shape[0]].numel()
    for place, x in enumerate(videos):
        own_norm, *own = fused.lattice(x, shape[0])
        rows = slice(place * shape[0], (place + 1) * shape[0])
        assert torch.equal(norm[rows], own_norm)
        for together, alone in zip(cosines, own, strict=True):
            assert torch.equal(together[rows], alone)
        own_labels, own_sizes = fused.lattice_components(*own, 0.8, shape[0])
        assert torch.equal(labels[place * count : (place + 1) * count], own_labels + numbers)
        assert torch.equal(sizes[numbers : numbers + len(own_sizes)], own_sizes)
        numbers += len(own_sizes)


@pytest.mark.parametrize("shape", SIZES)
def test_components_of_the_grid_are_those_of_its_graph(shape):
    x = features(*shape, seed=5, kinds=2, noise=0.2)
    _, *cosines = fused.lattice(x, shape[0])
    labels, sizes = fused.lattice_components(*cosines, 0.8, shape[0])
    partition = ConnectedComponents("scipy")(build_graph(VideoTokens.from_grid(x)).prune(0.8))
    assert torch.equal(labels, partition.labels)
    assert torch.equal(sizes, partition.sizes)


@given(st.integers(0, 300), st.integers(1, 20), st.integers(0, 1000), st.sampled_from([1e-6, 1e-3, 1.0]))
def test_ranks_are_those_of_the_reference(n, communities, seed, scale):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, communities, (n,), generator=g)
    sizes = torch.bincount(labels, minlength=communities)
    centrality = (scale * torch.randn(n, generator=g)).clamp(-1, 1)
    centrality[torch.rand(n, generator=g) < 0.3] = 0.5
    found = fused.community_ranks(labels, sizes, centrality)
    assert torch.equal(found, reference.community_ranks(labels, sizes, centrality))


@pytest.mark.parametrize("name", ["reference", "fused"])
@pytest.mark.parametrize("dim", [4, 16, 256])
def test_errors_of_equal_rows_do_not_add_up(name, dim):
    """Added one by one, equal rows are all rounded the same way: thousands of them were off by half a step of ties."""
    x = features(16, 12, 12, dim, seed=1, kinds=1, noise=0.0).flatten(0, 2)
    norm = x.double().norm(dim=1, keepdim=True)
    units = torch.where(norm > 0, x.double() / norm, 0.0)
    exact = (units @ units.sum(0) - (norm[:, 0] > 0).double()) / (len(x) - 1)
    rows, labels = torch.arange(len(x)), torch.zeros(len(x), dtype=torch.int64)
    with kernels.using(name):
        found = kernels.community_centrality(x, kernels.norms(x, rows), rows, labels, torch.tensor([len(x)]))
    assert torch.allclose(found.double(), exact, rtol=0, atol=5e-7)
