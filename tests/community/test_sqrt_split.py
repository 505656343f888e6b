"""√N splitting: within the bound, connected, as few and as even parts as the tree allows."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import StgraphError, VideoTokens, build_graph
from stgraph.community import COMMUNITIES
from stgraph.kernels import GRID, TIE_TOLERANCE

from ..strategies import features, videos
from .graphs import all_connected, graph_of, members

bounds = st.one_of(st.integers(1, 12), st.just("sqrt"))


@given(videos(dtypes=False), st.sampled_from([-1.0, 0.3, 0.8]), bounds)
@settings(max_examples=200)
def test_parts_are_bounded_connected_even_and_refine_the_communities(tokens, threshold, bound):
    graph = build_graph(tokens).prune(threshold)
    whole = COMMUNITIES.build("components")(graph)
    split = COMMUNITIES.build({"name": "sqrt_split", "bound": bound})(graph)
    limit = math.isqrt(graph.num_nodes) if bound == "sqrt" else bound
    assert all(size <= limit for size in split.sizes.tolist())
    assert all_connected(graph, split.labels)
    for community in members(whole.labels):
        parts = [part for part in members(split.labels) if part & community]
        assert all(part <= community for part in parts), "no part mixes communities"
        if len(community) <= limit:
            assert parts == [community], "what fits is left alone"
        # A lattice's vertex has at most 6 edges, so at most 5 branches hang below it.
        small = sorted(len(part) for part in parts)[0:-1]
        assert sum(size < limit / 5 for size in small) <= 1, "all parts but one have a fifth of the bound at least"


@given(st.integers(2, 9), st.integers(1, 5), st.data())
@settings(max_examples=60)
def test_a_tree_is_cut_into_the_fewest_parts(n, bound, data):
    edges = [(data.draw(st.integers(0, i - 1)), i) for i in range(1, n)]
    tree = nx.Graph(edges)

    def fits(cut):
        rest = tree.edge_subgraph(set(tree.edges) - set(cut)).copy()
        return max((len(c) for c in nx.connected_components(rest)), default=1) <= bound

    fewest = next(k + 1 for k in range(n) if any(fits(cut) for cut in itertools.combinations(tree.edges, k)))
    split = COMMUNITIES.build({"name": "sqrt_split", "bound": bound})(graph_of(n, edges))
    assert split.num_communities == fewest
    assert int(split.sizes.max()) <= bound


@pytest.mark.parametrize(("n", "bound"), [(10, 3), (12, 4), (100, 10), (7, 1), (5, 9)])
def test_a_path_is_cut_evenly(n, bound):
    split = COMMUNITIES.build({"name": "sqrt_split", "bound": bound})(graph_of(n, [(i, i + 1) for i in range(n - 1)]))
    assert split.num_communities == math.ceil(n / bound)


def test_parts_of_a_video_are_few_and_even():
    graph = build_graph(VideoTokens.from_grid(features(16, 14, 14, 16, seed=0, kinds=1)))
    split = COMMUNITIES.build("sqrt_split")(graph)
    bound = math.isqrt(graph.num_nodes)
    assert all_connected(graph, split.labels)
    assert split.num_communities <= 1.5 * graph.num_nodes / bound
    assert float(split.sizes.double().std() / split.sizes.double().mean()) < 0.35


def test_the_weakest_ties_are_cut_first():
    """A ring of four strong triangles: the tree takes the weak ties last, and the bound cuts just these."""
    triangles = [(3 * k + a, 3 * k + b) for k in range(4) for a, b in ((0, 1), (1, 2), (0, 2))]
    ties = [(2, 3), (5, 6), (8, 9), (0, 11)]
    graph = graph_of(12, triangles + ties, [0.99] * 12 + [0.81] * 4)
    split = COMMUNITIES.build({"name": "sqrt_split", "bound": 3})(graph)
    assert members(split.labels) == [{3 * k, 3 * k + 1, 3 * k + 2} for k in range(4)]


def test_a_community_that_is_not_connected_comes_apart():
    graph = build_graph(VideoTokens.from_grid(torch.ones(2, 3, 3, 2)))
    split = COMMUNITIES.build({"name": "sqrt_split", "detector": "tests.community.plugin:Chessboard", "bound": 4})(
        graph
    )
    assert split.sizes.tolist() == [1] * 18  # neighbours never share a colour


def test_a_batch_is_bounded_video_by_video():
    tokens = VideoTokens.from_grid([torch.ones(1, 4, 4, 2), torch.ones(4, 5, 5, 2)])
    split = COMMUNITIES.build("sqrt_split")(build_graph(tokens))
    for video, bound in ((0, 4), (1, 10)):
        assert int(split.sizes[split.labels[tokens.batch == video]].max()) <= bound


@pytest.mark.parametrize("bound", [0, -3, 2.5, "cube", None, True])
def test_bad_bound(bound):
    with pytest.raises(StgraphError, match="bound must be"):
        COMMUNITIES.build({"name": "sqrt_split", "bound": bound})


def test_steps_of_rounding_do_not_move_a_cut():
    """Edges as similar as each other up to rounding, as two kernels may see them, are told apart by their place."""
    grid = [(5 * row + column, 5 * row + column + 1) for row in range(5) for column in range(4)]
    grid += [(vertex, vertex + 5) for vertex in range(20)]
    chance = torch.Generator().manual_seed(0)
    similar = torch.randint(58000, 58004, (len(grid),), generator=chance) * TIE_TOLERANCE
    split = COMMUNITIES.build({"name": "sqrt_split", "bound": 5})
    exact = split(graph_of(25, grid, similar.tolist()))
    for _ in range(20):
        noise = torch.randint(-7, 8, (len(grid),), generator=chance) * GRID
        assert torch.equal(split(graph_of(25, grid, (similar + noise).tolist())).labels, exact.labels)
