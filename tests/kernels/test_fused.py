"""The fused kernels against float64 sums and against the reference kernels."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import StgraphError, STSimDiff, VideoTokens, kernels
from stgraph.kernels import fused, reference
from stgraph.kernels.fused import PAPER_OFFSETS

from ..strategies import features, videos

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
MORE_OFFSETS = (*PAPER_OFFSETS, (0, 1, 1), (0, 1, -1), (2, 0, 0), (1, -1, 2))


ERROR = 1.001 * kernels.GRID / 2
"""What float32 sums may be off by, relative to the norms: together with rounding one step of the grid."""


@pytest.fixture(autouse=True)
def _fused(monkeypatch):
    monkeypatch.setattr(fused, "_BYTES_PER_THREAD", 1)
    with kernels.using("fused"):
        yield


@contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def exact(x: torch.Tensor, offset: tuple[int, int, int]) -> torch.Tensor:
    left, right = kernels.edge_ends(x.double(), offset)
    length = left.norm(dim=-1) * right.norm(dim=-1)
    return torch.where(length > 0, (left * right).sum(-1) / length, 0.0)


@st.composite
def grids(draw: st.DrawFn) -> torch.Tensor:
    """(T, H, W, d) in any dtype and memory layout, with zero rows, ties and any magnitude."""
    sizes = [draw(st.integers(1, 5)), *(draw(st.integers(1, 6)) for _ in range(2)), draw(st.integers(1, 70))]
    dtype = draw(st.sampled_from(DTYPES))
    x = features(*sizes, seed=draw(st.integers(0, 10_000)), noise=draw(st.sampled_from([0.0, 0.2, 0.6])))
    scale = draw(st.sampled_from([1.0] if dtype == torch.float16 else [1.0, 1e-30, 1e30]))
    x = (x * scale).to(dtype)
    layout = draw(st.sampled_from(["plain", "strided", "transposed", "expanded", "misaligned", "last column left out"]))
    if layout == "strided":
        x = torch.stack([x, x], -1)[..., 0]
    elif layout == "transposed":
        x = x.transpose(0, 3).contiguous().transpose(0, 3)
    elif layout == "expanded":
        x = x[:1].expand(sizes[0], -1, -1, -1)
    elif layout == "misaligned":
        data = bytearray(x.numel() * x.element_size() + 1)
        shifted = torch.frombuffer(data, dtype=dtype, offset=1, count=x.numel()).view(x.shape)
        x = shifted.copy_(x)
    elif layout == "last column left out":
        x = torch.cat([x, x[:, :, :1]], 2)[:, :, : sizes[2]]
    return x


@given(grids())
@settings(max_examples=500)
def test_lattice_is_right_to_the_grid_step(x):
    norm, cosines = kernels.lattice_cosine(x, PAPER_OFFSETS)
    assert torch.allclose(norm, x.double().norm(dim=-1), rtol=ERROR, atol=0)
    for offset, cosine in zip(PAPER_OFFSETS, cosines, strict=True):
        expected = exact(x, offset)
        assert cosine.shape == expected.shape
        assert cosine.dtype == torch.float32
        assert torch.equal(cosine.double(), kernels.snap_cosine(cosine))
        assert bool(((cosine.double() - expected).abs() <= kernels.GRID / 2 + ERROR).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["normal", "all positive", "constant", "one large"])
def test_long_rows_are_as_right_as_short_ones(kind, dtype):
    """Sums whose rounding errors all point the same way are the worst there are."""
    x = torch.randn(3, 3, 3, 3584, generator=torch.Generator().manual_seed(1))
    if kind == "all positive":
        x = x.abs()
    elif kind == "constant":
        x = x[..., :1].expand_as(x) + 0
    elif kind == "one large":
        x[..., 7] *= 1000
    x = x.to(dtype)
    norm, cosines = kernels.lattice_cosine(x, PAPER_OFFSETS)
    assert torch.allclose(norm, x.double().norm(dim=-1), rtol=ERROR, atol=0)
    for offset, cosine in zip(PAPER_OFFSETS, cosines, strict=True):
        assert bool(((cosine.double() - exact(x, offset)).abs() <= kernels.GRID / 2 + ERROR).all())


def test_rows_of_every_magnitude_side_by_side():
    """Where float32 products overflow or vanish, in every function that reads features."""
    g = torch.Generator().manual_seed(0)
    scale = 10.0 ** torch.randint(-37, 38, (6, 5, 5, 1), generator=g)
    scale[0, :2] = 0
    x = (torch.randn(6, 5, 5, 100, generator=g) * scale).clamp(-3e38, 3e38)
    norm, cosines = kernels.lattice_cosine(x, PAPER_OFFSETS)
    assert torch.allclose(norm, x.double().norm(dim=-1), rtol=ERROR, atol=0)
    for offset, cosine in zip(PAPER_OFFSETS, cosines, strict=True):
        assert bool(((cosine.double() - exact(x, offset)).abs() <= kernels.GRID / 2 + ERROR).all())
    rows = torch.arange(150)
    labels = (rows >= 100).long()
    found = kernels.community_centrality(x.flatten(0, 2), norm.flatten(), rows, labels, torch.tensor([100, 50]))
    assert torch.allclose(found.double(), mean_cosine(x.flatten(0, 2), rows, labels), rtol=0, atol=kernels.GRID)


@given(grids())
@settings(max_examples=300)
def test_all_kernels_agree_and_all_ways_to_an_edge_are_one(x):
    norm, cosines = fused.lattice_cosine(x, MORE_OFFSETS)
    one_pass = fused.lattice_cosine(x, PAPER_OFFSETS)
    assert torch.equal(norm, one_pass[0])
    for a, b in zip(cosines[:3], one_pass[1], strict=True):
        assert torch.equal(a, b)
    plain_norm, plain = reference.lattice_cosine(x, MORE_OFFSETS)
    assert torch.allclose(norm, plain_norm, rtol=1e-6, atol=0)
    for a, b in zip(cosines, plain, strict=True):
        assert a.shape == b.shape
        assert bool(((a - b).abs() <= kernels.GRID).all())
    rows = x.flatten(0, 2)
    everything = torch.arange(len(rows))
    assert torch.equal(fused.norms(rows, everything), norm.flatten())
    vertices = everything.view(x.shape[:3])
    for offset, cosine in zip(MORE_OFFSETS, cosines, strict=True):
        pairs = torch.stack([end.flatten() for end in kernels.edge_ends(vertices, offset)])
        for ends in (pairs, pairs.flip(0)):
            found = fused.edge_cosine(rows, norm.flatten(), everything, ends)
            assert torch.equal(found, cosine.flatten())


def mean_cosine(x: torch.Tensor, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    norm = x[rows].double().norm(dim=1, keepdim=True)
    unit = torch.where(norm > 0, x[rows].double() / norm, 0.0)
    same = (labels[:, None] == labels) & ~torch.eye(len(x), dtype=torch.bool)
    return torch.where(same, unit @ unit.T, 0.0).sum(1) / same.sum(1).clamp(min=1)


@given(grids(), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=300)
def test_centrality_is_the_mean_cosine(x, communities, seed):
    x = x.flatten(0, 2)
    g = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(x), generator=g)
    labels = torch.unique(torch.randint(0, communities, (len(x),), generator=g), return_inverse=True)[1]
    sizes = torch.bincount(labels)
    norm = kernels.norms(x, rows)
    found = kernels.community_centrality(x, norm, rows, labels, sizes)
    assert torch.allclose(found.double(), mean_cosine(x, rows, labels), rtol=0, atol=kernels.GRID)
    plain = reference.community_centrality(x, norm, rows, labels, sizes)
    assert torch.allclose(found, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_communities_are_summed_in_pieces(dtype):
    x = features(10, 12, 13, 37, seed=4).to(dtype).flatten(0, 2)
    rows = torch.arange(len(x))
    labels = (rows >= 1300).long() + (rows >= 1557) + (rows >= 1559)  # of 1300, 257, 2 and 1
    norm = kernels.norms(x, rows)
    results = []
    for count in (1, 2, 3):
        with threads(count):
            results.append(kernels.community_centrality(x, norm, rows, labels, torch.bincount(labels)))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    plain = reference.community_centrality(x, norm, rows, labels, torch.bincount(labels))
    assert torch.allclose(results[0], plain, rtol=0, atol=1e-6)
    assert float(results[0][1559]) == 0
    assert results[0][1557] == results[0][1558]


def check_same_selections(tokens: VideoTokens, retention: float) -> None:
    selector = STSimDiff(retention=retention)
    with threads(2):
        ours = selector(tokens)
    assert ours.digest == selector(tokens).digest
    graph = selector.analyse(tokens).graph
    if bool(((graph.edge_weight[:, None] - torch.tensor([0.8, 0.2])).abs() < 2 * kernels.GRID).any()):
        return  # one step of the grid may rightly move such an edge across its threshold
    with kernels.using("reference"):
        plain = selector(tokens)
    assert torch.equal(ours.community, plain.community)
    assert torch.allclose(ours.centrality, plain.centrality, rtol=0, atol=1e-6)
    differ = ours.candidate != plain.candidate
    for community in ours.community[differ].unique():
        # Where rounding decides between two steps of the tolerance, members as good as equal may change places.
        swapped = ours.centrality[differ & (ours.community == community)]
        assert len(swapped) > 1
        assert float(swapped.max() - swapped.min()) <= 1.1 * kernels.TIE_TOLERANCE
    if bool(differ.any()):
        return
    assert torch.allclose(ours.importance, plain.importance, rtol=0, atol=kernels.TIE_TOLERANCE)
    moved = ours.mask != plain.mask
    assert bool((ours.margin[moved].abs() <= 1.1 * kernels.TIE_TOLERANCE).all()), "only at the cut"


@st.composite
def large_videos(draw: st.DrawFn) -> VideoTokens:
    """Videos with large communities."""
    sizes = [draw(st.integers(1, 12)), *(draw(st.integers(4, 12)) for _ in range(2)), draw(st.integers(4, 60))]
    kinds, noise = draw(st.integers(1, 2)), draw(st.sampled_from([0.1, 0.3, 0.6]))
    x = features(*sizes, seed=draw(st.integers(0, 10_000)), kinds=kinds, noise=noise)
    return VideoTokens.from_grid(x.to(draw(st.sampled_from(DTYPES))), newline=draw(st.booleans()))


@given(st.one_of(videos(), large_videos()), st.sampled_from([0.1, 0.3, 0.5]))
@settings(max_examples=100)
def test_selections_are_the_same(tokens, retention):
    check_same_selections(tokens, retention)


@pytest.mark.slow
@given(st.one_of(videos(), large_videos()), st.sampled_from([0.1, 0.3, 0.5]))
@settings(max_examples=5000)
def test_thousands_of_selections_are_the_same(tokens, retention):
    check_same_selections(tokens, retention)


def test_thread_count_changes_nothing():
    x = features(12, 9, 11, 700, seed=3)
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(STSimDiff()(VideoTokens.from_grid(x)))
    for name in ("indices", "centrality", "difference", "importance"):
        assert torch.equal(getattr(results[0], name), getattr(results[1], name)), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_is_read_exactly(dtype):
    if dtype == torch.float32:
        values = torch.tensor([1e-45, 3.4e38, -1e-30, 0.0])
    else:
        values = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    values = values[values.isfinite()]
    norm = kernels.norms(values[:, None], torch.arange(len(values)))
    assert torch.allclose(norm, values.double().abs(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_non_finite_features_show_in_the_norm(bad, dtype):
    x = torch.ones(2, 2, 2, 19, dtype=dtype)
    x[1, 0, 1, 18] = bad
    norm, _ = kernels.lattice_cosine(x, PAPER_OFFSETS)
    assert (~norm.isfinite()).nonzero().tolist() == [[1, 0, 1]]
    with pytest.raises(StgraphError, match="video 0, frame 1 hold NaN or Inf"):
        STSimDiff()(VideoTokens.from_grid(x))


def test_negated_views_are_read_with_their_sign():
    view = torch.randn(2, 2, 2, 4, dtype=torch.complex64).conj().imag
    view[:, 0] *= -1  # noted, not written: some of the signs cannot be seen in memory
    assert view.is_neg()
    assert view.stride(-1) == 2
    for a, b in zip(
        fused.lattice_cosine(view, PAPER_OFFSETS)[1], fused.lattice_cosine(view.clone(), PAPER_OFFSETS)[1], strict=True
    ):
        assert torch.equal(a, b)
    rows, pair = torch.arange(8), torch.tensor([[0], [1]])
    left, right = (
        fused.edge_cosine(x, fused.norms(x, rows), rows, pair) for x in (view.flatten(0, 2), view.clone().flatten(0, 2))
    )
    assert torch.equal(left, right)


def test_nothing_to_do():
    none = torch.empty(0, dtype=torch.int64)
    x = torch.randn(3, 5)
    assert kernels.norms(x, none).shape == (0,)
    assert kernels.edge_cosine(x, torch.ones(3).double(), torch.arange(3), none.view(2, 0)).shape == (0,)
    assert kernels.community_centrality(x, torch.ones(0).double(), none, none, none).shape == (0,)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x, n, r: kernels.norms(x, r + 1), "rows must be from 0 to 3, got 1 to 4"),
        (lambda x, n, r: kernels.norms(x, r.float()), "rows must be 4 numbers torch.int64"),
        (lambda x, n, r: kernels.norms(x, r.int()), "rows must be 4 numbers torch.int64"),
        (lambda x, n, r: kernels.edge_cosine(x, n, r, torch.tensor([[0], [4]])), "edge_index must be from 0 to 3"),
        (lambda x, n, r: kernels.community_centrality(x, n, r, r, torch.ones(3).long()), "labels must be from 0 to 2"),
        (lambda x, n, r: kernels.community_centrality(x, n, r, 0 * r, torch.tensor([3, 1])), "sizes must hold"),
        (lambda x, n, r: kernels.community_centrality(x, n[:2], r, 0 * r, torch.tensor([4])), "norm must be 4 numbers"),
        (lambda x, n, r: kernels.community_centrality(x, n, r[:2], 0 * r, torch.tensor([4])), "must be 2 numbers"),
        (lambda x, n, r: kernels.edge_cosine(x, n.float(), r, r.view(2, 2)), "norm must be 4 numbers torch.float64"),
        (lambda x, n, r: kernels.edge_cosine(x, n, r, r.view(2, 2).int()), "must be 2 numbers torch.int64"),
        (lambda x, n, r: fused.components(3, r.view(2, 2)), "edge_index must be from 0 to 2"),
        (lambda x, n, r: fused.components(4, r.view(2, 2).int()), "edge_index must be 2 numbers torch.int64"),
        (lambda x, n, r: fused.merge_forest(4, r.view(2, 2).short()), "edge_index must be 2 numbers torch.int64"),
        (lambda x, n, r: fused.lattice(x.view(4, 1, 1, 5), 3), "whole videos of 3 frames"),
        (lambda x, n, r: fused.lattice(x.view(4, 1, 1, 5), 0), "whole videos of 0 frames"),
        (lambda x, n, r: fused.lattice(x.T.contiguous().T.view(4, 1, 1, 5), 4), "whole videos of 4 frames"),
        (lambda x, n, r: fused.lattice_components(*[x[:, None]] * 2, x[:2, None], 0.5, 4), "weights must be 20"),
        (lambda x, n, r: fused.lattice_components(*[x[:, None]] * 3, 0.5, 3), "cannot be divided into videos"),
        (lambda x, n, r: kernels.community_ranks(r, torch.ones(4).long(), x[:3, 0]), "centrality must be 4 numbers"),
        (lambda x, n, r: kernels.community_ranks(r, torch.ones(4).long(), n), "centrality must be 4 numbers"),
        (lambda x, n, r: kernels.first_of(n, r[:3], 1), "items by"),
        (lambda x, n, r: kernels.first_of(n, r, 5), "the first 5 of"),
        (lambda x, n, r: kernels.first_of(n, r, -1), "the first -1 of"),
        (lambda x, n, r: kernels.first_of(n[:0], r[:0], 0), "the first 0 of"),
    ],
)
def test_nothing_outside_the_features_is_read(call, sentence):
    with pytest.raises(IndexError, match=sentence):
        call(torch.randn(4, 5), torch.ones(4).double(), torch.arange(4))


def test_places_beyond_32_bits(tmp_path):
    """A sparse file: of its four gigabytes only what is written takes room."""
    far = 2**30
    data = torch.from_file(str(tmp_path / "x"), shared=True, size=2 * far + 2**21, dtype=torch.float16)
    x = data.as_strided((3, 2, 2, 8), (far, 2**20, 2**10, 1))
    x.copy_(torch.randn(3, 2, 2, 8, generator=torch.Generator().manual_seed(0)))
    for a, b in zip(
        kernels.lattice_cosine(x, PAPER_OFFSETS)[1], reference.lattice_cosine(x.clone(), PAPER_OFFSETS)[1], strict=True
    ):
        assert bool(((a - b).abs() <= kernels.GRID).all())
    rows = torch.arange(3)
    apart = data.as_strided((3, 8), (far, 1))
    norm = kernels.norms(apart, rows)
    assert torch.allclose(norm, apart.double().norm(dim=1), rtol=ERROR, atol=0)
    found = kernels.community_centrality(apart, norm, rows, 0 * rows, torch.tensor([3]))
    assert torch.allclose(found.double(), mean_cosine(apart, rows, 0 * rows), rtol=0, atol=kernels.GRID)


@given(st.integers(0, 60), st.integers(0, 90), st.integers(0, 1000))
def test_components_are_those_of_scipy(vertices, edges, seed):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    g = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(0, max(vertices, 1), (2, edges if vertices else 0), generator=g)
    found = fused.components(vertices, edge_index)
    ends = edge_index.numpy()
    matrix = coo_array((torch.ones(ends.shape[1]).numpy(), (ends[0], ends[1])), shape=(vertices, vertices))
    if vertices:  # scipy numbers them by their first vertex too
        assert found.tolist() == connected_components(matrix, directed=False)[1].tolist()
    assert len(found) == vertices


def test_components_of_long_paths_do_not_take_quadratic_time():
    """Look-ups that did not shorten their path would take 8·10¹⁰ steps."""
    n = 400_000
    path = torch.arange(n - 1, -1, -1)
    assert not fused.components(n, torch.stack([path[:-1], path[1:]])).any()
    comb = torch.stack([torch.arange(n - 1), torch.full((n - 1,), n - 1)])
    assert not fused.components(n, comb.flip(1)).any()
