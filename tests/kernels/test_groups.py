"""Unit vectors that are summed while edges are found: what the groups are, and that they change no centrality."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import VideoTokens, build_graph, kernels
from stgraph.community.components import ConnectedComponents
from stgraph.kernels import fused, reference

from ..strategies import features

DTYPES = [torch.float32, torch.float16, torch.bfloat16]

LARGE = {torch.float32: 32, torch.float16: 64, torch.bfloat16: 64}
"""Members of a group at the least."""

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
    with kernels.use("fused"):
        yield


def video(shape: tuple[int, int, int, int], seed: int, *, kinds: int = 2, noise: float = 0.2) -> torch.Tensor:
    """Long runs of similar tokens beside restless ones."""
    x = features(*shape, seed=seed, kinds=kinds, noise=noise)
    calm = shape[2] * 2 // 3
    x[:, :, :calm] = x[:1, :1, :1] + 0.3 * x[:, :, :calm]
    return x


def unit(x: torch.Tensor) -> torch.Tensor:
    norm = x.double().norm(dim=-1, keepdim=True)
    return torch.where(norm > 0, x.double() / norm, 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SIZES)
def test_groups_are_parts_of_components_and_their_sums(shape, dtype):
    x = video(shape, seed=1).to(dtype)
    norm, left, above, before, groups = fused.lattice(x, shape[0], 0.8)
    labels, sizes = fused.lattice_components(left, above, before, 0.8, shape[0])
    units, sums = unit(x.flatten(0, 2)), groups.sums[0]
    present = groups.member[groups.member >= 0].unique()
    assert len(present) or dtype != torch.float32, "or nothing is tested here"
    for group in present.tolist():
        members = groups.member == group
        assert int(members.sum()) >= LARGE[dtype]
        assert len(labels[members].unique()) == 1
        expected = torch.zeros(sums.shape[1], dtype=torch.float64)
        expected[: shape[3]] = units[members].sum(0)
        found = sums[group].double()
        if dtype == torch.bfloat16:  # a pair of them is read as one word, so they lie in another order
            found, expected = found.sort().values, expected.sort().values
        assert torch.allclose(found, expected, rtol=0, atol=2e-7 * len(units))
    rows = torch.arange(len(units))
    found, plain = (
        fused.community_centrality(x.flatten(0, 2), norm.flatten(), rows, labels, sizes, known)
        for known in (groups, None)
    )
    assert torch.allclose(found, plain, rtol=0, atol=5e-7)
    assert torch.allclose(
        found, reference.community_centrality(x.flatten(0, 2), norm.flatten(), rows, labels, sizes), rtol=0, atol=1e-6
    )


@given(st.sampled_from(SIZES[:2] + SIZES[3:]), st.integers(0, 1000), st.integers(1, 30), st.sampled_from(DTYPES))
@settings(max_examples=100)
def test_groups_that_communities_split_are_left_aside(shape, seed, communities, dtype):
    x = video(shape, seed).to(dtype)
    norm, *_, groups = fused.lattice(x, shape[0], 0.8)
    g = torch.Generator().manual_seed(seed)
    area = shape[1] * shape[2]
    row = torch.arange(shape[0] * area) // torch.randint(1, 2 * area, (1,), generator=g)  # some whole, some not
    labels = torch.unique(row % communities, return_inverse=True)[1]
    sizes, rows = torch.bincount(labels), torch.arange(len(labels))
    found, plain = (
        fused.community_centrality(x.flatten(0, 2), norm.flatten(), rows, labels, sizes, known)
        for known in (groups, None)
    )
    assert torch.allclose(found, plain, rtol=0, atol=5e-7)


@pytest.mark.parametrize("shape", [(5, 3, 5, 6), SIZES[0], SIZES[2]])
def test_videos_that_follow_each_other_are_as_one_by_one(shape):
    videos = [video(shape, seed) for seed in range(3)]
    norm, *cosines, groups = fused.lattice(torch.cat(videos), shape[0], 0.8)
    labels, sizes = fused.lattice_components(*cosines, 0.8, shape[0])
    members, numbers = 0, 0
    count = norm[: shape[0]].numel()
    for place, x in enumerate(videos):
        own_norm, *own, own_groups = fused.lattice(x, shape[0], 0.8)
        rows = slice(place * shape[0], (place + 1) * shape[0])
        assert torch.equal(norm[rows], own_norm)
        for together, alone in zip(cosines, own, strict=True):
            assert torch.equal(together[rows], alone)
        here = groups.member[place * count : (place + 1) * count]
        assert torch.equal(here, torch.where(own_groups.member < 0, -1, own_groups.member + members))
        assert all(
            torch.equal(groups.sums[0][members + group], own_groups.sums[0][group])
            for group in own_groups.member[own_groups.member >= 0].unique().tolist()
        )
        own_labels, own_sizes = fused.lattice_components(*own, 0.8, shape[0])
        assert torch.equal(labels[place * count : (place + 1) * count], own_labels + numbers)
        assert torch.equal(sizes[numbers : numbers + len(own_sizes)], own_sizes)
        members, numbers = members + len(own_groups), numbers + len(own_sizes)


@pytest.mark.parametrize("shape", SIZES)
def test_components_of_the_grid_are_those_of_its_graph(shape):
    x = video(shape, seed=5)
    _, *cosines, _ = fused.lattice(x, shape[0], 0.8)
    labels, sizes = fused.lattice_components(*cosines, 0.8, shape[0])
    partition = ConnectedComponents("scipy")(build_graph(VideoTokens.from_grid(x)).prune(0.8))
    assert torch.equal(labels, partition.labels)
    assert torch.equal(sizes, partition.sizes)


def test_a_batch_and_its_videos_have_the_same_groups():
    tokens = VideoTokens.from_grid([video(SIZES[0], 1), video((2, 2, 2, 16), 2), video(SIZES[0], 3)])
    graph = build_graph(tokens, join_at=0.8)
    partition = ConnectedComponents()(graph.prune(0.8))
    whole = graph.centrality(partition.labels, partition.sizes)
    assert graph.groups is not None
    assert len(graph.groups.member[graph.groups.member >= 0].unique()) > 1
    for index in range(3):
        alone = graph.video(index)
        labels = partition.labels[graph.batch == index]
        labels = labels - labels.min()
        assert torch.equal(alone.centrality(labels, torch.bincount(labels)), whole[graph.batch == index])
        again = build_graph(tokens.video(index), join_at=0.8)
        assert torch.equal(again.centrality(labels, torch.bincount(labels)), whole[graph.batch == index])


def test_no_groups_where_they_are_not_asked_for():
    x = video(SIZES[0], 1)
    *_, groups = fused.lattice(x, 6)
    assert not len(groups)
    assert bool((groups.member == -1).all())
    assert build_graph(VideoTokens.from_grid(x)).groups is None


def test_thread_count_changes_no_bit():
    x = video(SIZES[2], 7)
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            _, *cosines, groups = fused.lattice(x, 5, 0.8)
            present = groups.member[groups.member >= 0].unique()
            results.append((*cosines, groups.member, groups.sums[0][present]))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


def test_rows_of_every_magnitude_are_summed():
    x = video(SIZES[0], 3)
    x[:, 2:4] *= 1e30
    x[:, 4:6] *= 1e-30
    norm, *cosines, groups = fused.lattice(x, 6, 0.8)
    labels, sizes = fused.lattice_components(*cosines, 0.8, 6)
    rows = torch.arange(len(labels))
    found = fused.community_centrality(x.flatten(0, 2), norm.flatten(), rows, labels, sizes, groups)
    wanted = reference.community_centrality(x.flatten(0, 2), norm.flatten(), rows, labels, sizes)
    assert bool((groups.member >= 0).any())
    assert torch.allclose(found, wanted, rtol=0, atol=1e-6)


def test_group_numbers_are_checked():
    x = torch.randn(4, 5)
    zero = torch.zeros(4, dtype=torch.int64)
    wrong = kernels.Groups(zero + 3, (torch.zeros(1, 32),))
    with pytest.raises(IndexError, match="groups must be"):
        kernels.community_centrality(x, torch.ones(4).double(), torch.arange(4), zero, torch.tensor([4]), wrong)


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
    units, rows, labels = unit(x), torch.arange(len(x)), torch.zeros(len(x), dtype=torch.int64)
    zero = units.norm(dim=1) == 0
    exact = (units @ units.sum(0) - (~zero).double()) / (len(x) - 1)
    with kernels.use(name):
        graph = build_graph(VideoTokens.from_grid(x.view(16, 12, 12, dim)), join_at=0.8)
        found = [
            kernels.community_centrality(x, graph.norm, rows, labels, torch.tensor([len(x)]), groups)
            for groups in (None, graph.groups)
        ]
    for centrality in found:
        assert torch.allclose(centrality.double(), exact, rtol=0, atol=5e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_still_clip_is_summed_without_another_read(dtype):
    """Every token is in a group, and all groups in one community: nothing is left that the sums must be read for."""
    x = torch.ones(16, 14, 15, 3584, dtype=dtype)
    _, *cosines, groups = fused.lattice(x, 16, 0.8)
    labels, _ = fused.lattice_components(*cosines, 0.8, 16)
    assert bool((groups.member >= 0).all())
    assert not labels.any()
    used = len(groups.member.unique())
    assert used <= 16 / 2, "one for each tile"
    assert groups.sums[0].numel() * 4 <= 1.1 * x.numel() * x.element_size() / 32, "what they may take at the most"
