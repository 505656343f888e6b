"""The merge tree against recomputation, scipy's own single linkage, and brute force."""

from __future__ import annotations

import dataclasses
import statistics
import time

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy

from stgraph import StgraphError, STSimDiff, VideoTokens, build_graph, kernels
from stgraph.budget import ceil_share
from stgraph.community import COMMUNITIES, ConnectedComponents
from stgraph.community.agglomerative import Agglomerative
from stgraph.graph.merge_tree import merge_tree
from stgraph.graph.spatiotemporal import snap_threshold
from stgraph.kernels import GRID

from ..strategies import features, retentions, videos


@pytest.fixture(autouse=True, params=["reference", "fused"])
def _kernels(request):
    with kernels.using(request.param):
        yield


THRESHOLDS = torch.linspace(-1, 1, 100, dtype=torch.float64).tolist()


def recomputed(graph, threshold):
    return ConnectedComponents()(graph.prune(threshold)).labels


def large_graph():
    return build_graph(VideoTokens.from_grid(features(32, 14, 14, 48, seed=0, noise=0.6)))


def weighted(edges, num_nodes):
    """A graph of given (first, second, weight) edges between equal vertices of one row."""
    graph = build_graph(VideoTokens.from_grid(torch.ones(1, 1, num_nodes, 2)))
    index = torch.tensor([edge[:2] for edge in edges], dtype=torch.int64).reshape(-1, 2).T
    weight = torch.tensor([edge[2] for edge in edges], dtype=torch.float32)
    kind = torch.zeros(len(edges), dtype=torch.uint8)
    return dataclasses.replace(graph, edge_index=index, edge_weight=weight, edge_kind=kind)


def test_components_at_a_hundred_thresholds_are_those_of_recomputation():
    graph = large_graph()
    tree = merge_tree(graph)
    sweep = tree.sweep(THRESHOLDS)
    for number, threshold in enumerate(THRESHOLDS):
        labels = recomputed(graph, threshold)
        assert torch.equal(tree.components(threshold), labels)
        sizes = labels.bincount()
        assert torch.equal(tree.sizes(threshold), sizes)
        assert sweep.communities[number] == tree.num_communities(threshold) == len(sizes)
        assert sweep.largest[number] == sizes.max()
        assert sweep.largest_share[number] == sizes.max() / len(labels)
        assert sweep.singletons[number] == (sizes == 1).sum()
        assert float(sweep.mean_size[number]) == pytest.approx(float(sizes[labels].double().mean()))


@given(st.lists(videos(dtypes=False), min_size=1, max_size=3), st.lists(st.floats(-1, 1), min_size=1, max_size=4))
def test_components_of_any_batch_at_any_threshold(parts, thresholds):
    parts = [p for p in parts if p.features.shape[1] == parts[0].features.shape[1]]
    graph = build_graph(VideoTokens.cat(parts))
    tree = merge_tree(graph)
    thresholds += graph.edge_weight[:4].tolist()  # where "equal" decides
    for threshold in thresholds:
        assert torch.equal(tree.components(threshold), recomputed(graph, threshold))
    assert tree.num_communities(thresholds).tolist() == [len(tree.sizes(t)) for t in thresholds]


@given(videos(dtypes=False))
def test_the_tree_is_a_maximum_spanning_forest(tokens):
    graph = build_graph(tokens)
    tree = merge_tree(graph)
    other = nx.maximum_spanning_tree(graph.to_networkx())
    weights = sorted((w for _, _, w in other.edges(data="weight")), reverse=True)
    assert tree.weight.tolist() == weights, "the weights of any maximum spanning forest are the same"
    ends = {tuple(sorted(e)) for e in tree.edges.T.tolist()}
    assert ends <= {tuple(e) for e in graph.edge_index.T.tolist()}
    assert tree.num_merges == graph.num_nodes - nx.number_connected_components(graph.to_networkx())


def test_zero_negative_and_parallel_edges_count():
    tree = merge_tree(weighted([(0, 1, 0.0), (1, 2, -0.5), (1, 2, -0.75), (3, 2, 0.5), (2, 3, 0.25)], 5))
    assert tree.weight.tolist() == [0.5, 0.0, -0.5]
    assert tree.components(-1).tolist() == [0, 0, 0, 0, 1]
    assert tree.components(-0.6).tolist() == [0, 0, 0, 0, 1]
    assert tree.components(-0.4).tolist() == [0, 0, 1, 1, 2]
    assert tree.components(0.1).tolist() == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("num_nodes", [0, 1, 3])
def test_graphs_without_edges(num_nodes):
    graph = weighted([], max(num_nodes, 1))
    if not num_nodes:
        token = torch.zeros(1, 1, 1, 2)
        graph = build_graph(VideoTokens.from_grid(token, mask=torch.zeros(1, 1, 1, dtype=torch.bool)))
    tree = merge_tree(graph)
    assert tree.components(0.5).tolist() == list(range(num_nodes))
    assert tree.num_communities([0.0, 1.0]).tolist() == [num_nodes, num_nodes]
    assert tree.sweep([0.5]).largest.tolist() == [min(num_nodes, 1)]
    assert tree.threshold_for(1) == 1.0
    assert len(tree.persistence(1).birth) == num_nodes
    assert len(tree.to_linkage()) == max(num_nodes - 1, 0)


# -- targets ----------------------------------------------------------------------------------------------------------


@given(videos(dtypes=False), st.integers(1, 60))
def test_threshold_for_a_number_of_communities(tokens, wanted):
    tree = merge_tree(build_graph(tokens))
    threshold = tree.threshold_for(wanted)
    fewest = tree.num_nodes - tree.num_merges
    assert int(tree.num_communities(threshold)) <= max(wanted, fewest)
    if threshold < 1:
        assert int(tree.num_communities(threshold + GRID)) > max(wanted, fewest), "any higher threshold has too many"


@given(videos(dtypes=False), retentions, st.floats(0, 1.2))
def test_threshold_for_a_number_of_representatives(tokens, retention, share):
    graph = build_graph(tokens)
    tree = merge_tree(graph)
    for threshold in (-1.0, 0.3, 0.8):
        sizes = recomputed(graph, threshold).bincount().tolist()
        expected = sum(ceil_share(retention, size) for size in sizes)
        assert int(tree.num_representatives(threshold, retention)) == expected
    counts = tree.num_representatives(THRESHOLDS, retention)
    assert bool((counts.diff() >= 0).all()), "never fewer at a higher threshold"
    budget = round(share * tree.num_nodes)
    threshold = tree.threshold_for_kept(budget, retention)
    fewest = int(tree.num_representatives(-1.0, retention))
    assert fewest >= ceil_share(retention, tree.num_nodes)
    assert int(tree.num_representatives(threshold, retention)) <= max(budget, fewest)
    if threshold < 1:
        assert int(tree.num_representatives(threshold + GRID, retention)) > max(budget, fewest)


@given(videos(dtypes=False), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 20)))
def test_agglomerative_meets_its_targets(tokens, communities, largest):
    graph = build_graph(tokens)
    partition = Agglomerative(communities=communities, largest=largest)(graph)
    fewest = graph.num_nodes - merge_tree(graph).num_merges
    if largest is None:
        assert partition.num_communities == max(min(communities, graph.num_nodes), fewest)
    else:
        assert int(partition.sizes.max()) <= largest
        assert partition.num_communities >= max(min(communities, graph.num_nodes), fewest)
    for label in range(partition.num_communities):
        members = (partition.labels == label).nonzero()[:, 0].tolist()
        assert nx.is_connected(graph.to_networkx().subgraph(members))


def test_agglomerative_in_the_whole_method():
    method = COMMUNITIES.build({"name": "agglomerative", "communities": 7})
    tokens = VideoTokens.from_grid(features(4, 5, 5, 16, seed=1))
    selection = STSimDiff(similarity_threshold=-1, community=method)(tokens)
    assert int(selection.community.max()) == 6
    assert COMMUNITIES.build("agglomerative")(build_graph(tokens)).num_communities == 10, "⌈√100⌉ by default"


@pytest.mark.parametrize("field", ["communities", "largest"])
@pytest.mark.parametrize("value", [0, -3, 2.5, True])
def test_agglomerative_refuses(field, value):
    with pytest.raises(StgraphError, match=f"agglomerative {field} must be a whole number ≥ 1"):
        Agglomerative(**{field: value})


# -- the tree itself --------------------------------------------------------------------------------------------------


@given(videos(dtypes=False))
@settings(max_examples=40)
def test_persistence_lists_every_community_that_ever_exists(tokens):
    graph = build_graph(tokens)
    tree = merge_tree(graph)
    levels = sorted({snap_threshold(w) for w in graph.edge_weight.tolist()} | {1.0}, reverse=True)
    lives: dict[frozenset[int], list[float]] = {}
    for level in levels:
        labels = recomputed(graph, level)
        for label in range(int(labels.max()) + 1):
            lives.setdefault(frozenset((labels == label).nonzero()[:, 0].tolist()), []).append(level)
    found = tree.persistence(1)
    assert len(found.birth) == len(lives)
    assert bool((found.lifetime[1:] <= found.lifetime[:-1]).all())
    for birth, death, size, first in zip(found.birth, found.death, found.size, found.first, strict=True):
        labels = tree.components(float(birth))
        members = frozenset((labels == labels[first]).nonzero()[:, 0].tolist())
        assert len(members) == size
        assert min(members) == first
        assert max(lives[members]) == birth
        assert death == max((level for level in levels if level < min(lives[members])), default=-torch.inf)
    assert len(tree.persistence(3).birth) == sum(len(members) >= 3 for members in lives)


def test_linkage_is_that_of_scipy():
    tokens = VideoTokens.from_grid(torch.randn(1, 4, 5, 3, generator=torch.Generator().manual_seed(0)))
    graph = build_graph(tokens)
    linkage = merge_tree(graph).to_linkage()
    assert hierarchy.is_valid_linkage(linkage, throw=True)
    for clusters in (1, 2, 5, 11, 20):
        ours = Agglomerative(communities=clusters)(graph).labels.tolist()
        theirs = hierarchy.fcluster(linkage, clusters, "maxclust").tolist()
        assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == clusters
    assert linkage[:, 2].tolist() == sorted(linkage[:, 2].tolist())
    assert linkage[-1, 3] == 20


def test_linkage_of_parts_joins_them_at_opposite():
    linkage = merge_tree(weighted([(0, 2, 0.5), (3, 4, 0.25)], 5)).to_linkage()
    assert hierarchy.is_valid_linkage(linkage, throw=True)
    assert linkage.tolist() == [[0, 2, 0.5, 2], [3, 4, 0.75, 2], [1, 5, 2, 3], [6, 7, 2, 5]]
    with pytest.raises(StgraphError, match="weights of at most 1, got 3"):
        merge_tree(weighted([(0, 1, 3.0)], 2)).to_linkage()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tree: tree.components(float("nan")), "threshold must be a number"),
        (lambda tree: tree.num_communities([0.1, float("inf")]), "thresholds must be finite"),
        (lambda tree: tree.threshold_for(0), "num_communities must be a whole number ≥ 1"),
        (lambda tree: tree.threshold_for_kept(3, 0), "retention must be a number > 0"),
        (lambda tree: tree.threshold_for_kept(-1, 0.5), "budget must be a whole number ≥ 0"),
        (lambda tree: tree.communities_after(99), "merges must be a whole number ≥ 0 and ≤ 1"),
        (lambda tree: tree.persistence(0), "smallest must be a whole number ≥ 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(StgraphError, match=message):
        call(merge_tree(weighted([(0, 1, 0.5)], 2)))


def test_a_hundred_thresholds_cost_a_fraction_of_recomputing():
    """Against scipy; the bound is wide, because the machine may be busy. benchmarks/merge_tree.py prints all ratios."""
    graph = large_graph()
    merge_tree(graph), recomputed(graph, 0.5)  # loads scipy

    def seconds(run):
        taken = []
        for _ in range(3):
            start = time.process_time()
            run()
            taken.append(time.process_time() - start)
        return statistics.median(taken)

    def by_tree():
        tree = merge_tree(graph)
        for threshold in THRESHOLDS:
            tree.components(threshold)

    with kernels.using("reference"):
        assert seconds(by_tree) < seconds(lambda: [recomputed(graph, t) for t in THRESHOLDS]) / 3
    assert seconds(lambda: merge_tree(graph).sweep(THRESHOLDS)) < seconds(by_tree)


@given(videos())
@settings(max_examples=100)
def test_all_kernels_give_the_same_tree(tokens):
    graph = build_graph(tokens)
    trees = []
    for name in ("reference", "fused"):
        with kernels.using(name):
            trees.append(merge_tree(graph))
    for field in dataclasses.fields(trees[0]):
        one, other = (getattr(tree, field.name) for tree in trees)
        assert torch.equal(one, other), field.name
        assert one.dtype == other.dtype
