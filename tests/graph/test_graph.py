"""The graph and how it is built."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import SpatialEdges, StgraphError, TemporalEdges, VideoTokens, build_graph
from stgraph.community.composed import Composed
from stgraph.difference import DIFFERENCES
from stgraph.graph.edges import SPATIAL, TEMPORAL
from stgraph.tokens import Grid, SeparatorLayout, raster_keys, separator_count

from ..memory import peak_growth
from ..strategies import features, videos


@given(videos())
def test_similarity_of_an_edge_is_its_weight(tokens):
    graph = build_graph(tokens)
    assert torch.equal(graph.similarity(graph.edge_index), graph.edge_weight)


def test_size_is_linear_and_offsets_are_the_papers():
    graph = build_graph(VideoTokens.from_grid(torch.randn(5, 4, 3, 2)))
    assert graph.num_nodes == 60
    assert graph.num_edges == 5 * (4 * 2 + 3 * 3) + 4 * 12 < 3 * 60
    difference = (graph.coords[graph.edge_index[1]] - graph.coords[graph.edge_index[0]]).tolist()
    assert {tuple(d) for d in difference} == {(0, 0, 1), (0, 1, 0), (1, 0, 0)}
    assert set(graph.edge_kind.tolist()) == {SPATIAL, TEMPORAL}


def test_holes_give_the_same_weights_as_the_dense_grid():
    x = features(4, 5, 6, 33, seed=1)
    mask = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0)) < 0.7
    dense, sparse = build_graph(VideoTokens.from_grid(x)), build_graph(VideoTokens.from_grid(x, mask=mask))

    def by_place(graph):
        ends = graph.coords[graph.edge_index].tolist()
        return {(tuple(a), tuple(b)): w for a, b, w in zip(*ends, graph.edge_weight.tolist(), strict=True)}

    full = by_place(dense)
    part = by_place(sparse)
    assert part == {e: w for e, w in full.items() if mask[e[0]] and mask[e[1]]}


@pytest.mark.parametrize("layout", ["row", "frame", "trailing"])
def test_separators_are_no_vertices_unless_asked(layout):
    count = {"row": 12, "frame": 3, "trailing": 1}[layout]
    tokens = VideoTokens.from_sequence(torch.randn(3 * 4 * 5 + count, 7), (3, 4, 5), separator_layout=layout)
    graph = build_graph(tokens)
    assert graph.num_nodes == 60
    assert not bool(tokens.separator[graph.token].any())
    assert build_graph(tokens, separators_as_vertices=True).num_nodes == 60 + count


def test_row_separators_as_vertices_are_a_column():
    x = torch.randn(3, 4, 6, 7)
    with_column = build_graph(VideoTokens.from_grid(x))
    as_vertices = build_graph(VideoTokens.from_grid(x, newline=True), separators_as_vertices=True)
    assert torch.equal(with_column.edge_index, as_vertices.edge_index)
    assert torch.equal(with_column.edge_weight, as_vertices.edge_weight)


def test_connectivity_and_stride():
    tokens = VideoTokens.from_grid(torch.randn(5, 4, 4, 3))
    graph = build_graph(tokens, (SpatialEdges(connectivity=8), TemporalEdges(stride=2)))
    spatial, temporal = ((graph.edge_kind == kind).sum().item() for kind in (SPATIAL, TEMPORAL))
    assert spatial == 5 * (2 * 12 + 2 * 9)
    assert temporal == 3 * 16
    for bad in (5, "4"):
        with pytest.raises(StgraphError, match="connectivity must be 4 or 8"):
            SpatialEdges(connectivity=bad)
    with pytest.raises(StgraphError, match="stride must be a whole number ≥ 1"):
        TemporalEdges(stride=0)


def test_zero_vectors_have_similarity_zero():
    x = torch.randn(2, 2, 2, 5)
    x[0, 0, 0] = 0
    graph = build_graph(VideoTokens.from_grid(x))
    touched = (graph.edge_index == 0).any(0)
    assert bool((graph.edge_weight[touched] == 0).all())


@given(videos(), st.floats(-1, 1))
def test_prune_keeps_what_is_not_below(tokens, threshold):
    graph = build_graph(tokens)
    pruned = graph.prune(threshold)
    kept = graph.edge_weight >= threshold - 5e-7
    assert pruned.num_edges == int(kept.sum())
    assert pruned.num_nodes == graph.num_nodes


@given(st.lists(videos(dtypes=False), min_size=1, max_size=3))
def test_video_of_a_batch_is_the_graph_of_that_video(parts):
    parts = [p for p in parts if p.features.shape[1] == parts[0].features.shape[1]]
    graph = build_graph(VideoTokens.cat(parts))
    for number, part in enumerate(parts):
        one, alone = graph.video(number), build_graph(part)
        for name in ("edge_index", "edge_weight", "edge_kind", "coords", "batch", "norm"):
            assert torch.equal(getattr(one, name), getattr(alone, name)), name


def test_non_contiguous_and_expanded_features():
    x = features(3, 4, 5, 16, seed=2)
    strided = x.transpose(0, 3).contiguous().transpose(0, 3)
    for name, view in (("strided", strided), ("expanded", x[:1].expand(3, -1, -1, -1))):
        a = build_graph(VideoTokens.from_grid(view))
        b = build_graph(VideoTokens.from_grid(view.contiguous()))
        assert torch.equal(a.edge_weight, b.edge_weight), name


def test_requires_grad_is_left_alone():
    x = features(2, 3, 3, 8, seed=0).requires_grad_()
    graph = build_graph(VideoTokens.from_grid(x))
    assert not graph.edge_weight.requires_grad
    assert x.grad is None


def test_from_grid_does_not_copy():
    x = torch.randn(2, 3, 4, 5, 6)
    for grid in (x[0], x):
        assert VideoTokens.from_grid(grid, newline=True).features.data_ptr() == x.data_ptr()


def test_peak_memory_is_a_fraction_of_the_features():
    """No N×d temporary: the scratch of the kernels is small against the features."""
    prepare = """
import torch
from stgraph import STSimDiff, VideoTokens
selector = STSimDiff()
selector(VideoTokens.from_grid(torch.randn(4, 8, 8, 64)))  # loads what is loaded lazily
x = torch.randn(40, 20, 20, 4096)
"""
    features = 40 * 20 * 20 * 4096 * 4
    growth, _ = peak_growth(prepare, "selector(VideoTokens.from_grid(x))")
    assert growth < 0.15 * features
    copied, _ = peak_growth(prepare, "y = torch.nn.functional.normalize(x, dim=-1)")
    assert copied > 0.9 * features, "a copy would be seen"


def test_all_pairs_of_a_tiny_grid_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0], [0.0, -1.0]]).view(1, 2, 2, 2)
    graph = build_graph(VideoTokens.from_grid(x))
    edges = dict(zip(map(tuple, graph.edge_index.T.tolist()), graph.edge_weight.tolist(), strict=True))
    assert edges == pytest.approx({(0, 1): 0.6, (2, 3): -1.0, (0, 2): 0.0, (1, 3): -0.8}, abs=1e-6)


@given(
    st.lists(st.tuples(*[st.integers(-2, 4)] * 3), min_size=1, max_size=40, unique=True),
    st.tuples(*[st.integers(-3, 3)] * 3),
    st.integers(1, 3),
)
def test_no_two_places_have_the_same_number(places, shift, videos_):
    coords = torch.tensor(sorted(places) * videos_)
    batch = torch.arange(videos_).repeat_interleave(len(places))
    key, moved = raster_keys(coords, batch, shift)
    assert bool((key[1:] > key[:-1]).all()), "in raster order"
    where = {(int(b), *c.tolist()): int(k) for b, c, k in zip(batch, coords, key, strict=True)}
    numbers = set(where.values())
    for b, c, k in zip(batch, coords, moved, strict=True):
        place = (int(b), *(c + torch.tensor(shift)).tolist())
        assert (int(k) in numbers) == (place in where)
        assert place not in where or where[place] == int(k)


@given(videos(), st.tuples(st.integers(0, 3), st.integers(-3, 3), st.integers(-3, 3)), st.booleans())
def test_pairs_are_all_that_lie_apart(tokens, offset, vertices):
    """By brute force, with separators of every layout as vertices too."""
    graph = build_graph(tokens, separators_as_vertices=vertices)
    place = {tuple(c): i for i, c in enumerate(graph.coords.tolist())}
    wanted = [
        [i, place[other]]
        for c, i in place.items()
        if (other := tuple(a + b for a, b in zip(c, offset, strict=True))) in place
    ]
    assert graph.pairs(offset).T.tolist() == sorted(wanted)


@pytest.mark.parametrize("layout", get_args(SeparatorLayout))
def test_nothing_happens_in_a_still_clip(layout):
    """Whatever the layout of separators, and by every difference detector: no token is taken for another's past."""
    count = 8 * 12 + separator_count(Grid(8, 3, 4), layout)
    tokens = VideoTokens.from_sequence(torch.randn(1, 6).expand(count, -1), (8, 3, 4), separator_layout=layout)
    if layout == "frame_start":  # an own vector: it must not be compared with a token
        tokens = tokens.with_features(torch.where(tokens.separator[:, None], -tokens.features, tokens.features))
    graph = build_graph(tokens, separators_as_vertices=True)
    for name in DIFFERENCES:
        if name not in ("spatial", "evs"):  # they tell the [CLS] from the picture, and keep the first frame
            assert not DIFFERENCES.build(name)(graph).marked.any(), name


@given(videos(), st.sampled_from(["components", "louvain"]))
@settings(max_examples=30)
def test_centrality_in_composed_communities_is_the_mean_cosine(tokens, second):
    graph = build_graph(tokens)
    labels = Composed(second=second)(graph.prune(0.5)).labels
    found = graph.centrality(labels, torch.bincount(labels))
    x = tokens.features[graph.token].double()
    unit = torch.nn.functional.normalize(x, dim=-1)
    same = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)
    wanted = torch.where(same, unit @ unit.T, 0.0).sum(1) / same.sum(1).clamp(min=1)
    assert torch.allclose(found.double(), wanted, rtol=0, atol=2e-6)
