"""Measures of a partition against networkx, igraph and their definitions."""

from __future__ import annotations

import math

import igraph
import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph import Partition, StgraphError, build_graph
from stgraph.community import COMMUNITIES
from stgraph.community.base import by_first_appearance

from ..strategies import videos
from .graphs import SMALL, graph_of, members, to_networkx


def partition_of(labels):
    return Partition(by_first_appearance(torch.tensor(labels, dtype=torch.int64)))


@st.composite
def pairs_of_labels(draw):
    n = draw(st.integers(1, 30))
    lists = [st.lists(st.integers(0, draw(st.sampled_from([0, 2, 30]))), min_size=n, max_size=n) for _ in range(2)]
    return tuple(draw(labels) for labels in lists)


@given(videos(dtypes=False), st.sampled_from([0.0, 0.5]), st.integers(1, 5), st.floats(0.1, 3))
def test_measures_are_networkx_and_igraph(tokens, threshold, communities, resolution):
    graph = build_graph(tokens).prune(threshold)
    labels = torch.randint(communities, (graph.num_nodes,), generator=torch.Generator().manual_seed(communities))
    partition = Partition(by_first_appearance(labels))
    nxg = to_networkx(graph)
    sets = members(partition.labels)
    if float(graph.edge_weight.sum()):
        theirs = nx.community.modularity(nxg, sets, resolution=resolution)
        assert partition.modularity(graph, resolution) == pytest.approx(theirs, abs=1e-9)
        ig = igraph.Graph(graph.num_nodes, edges=graph.edge_index.T.tolist())
        theirs = ig.modularity(partition.labels.tolist(), weights=graph.edge_weight.tolist(), resolution=resolution)
        assert partition.modularity(graph, resolution) == pytest.approx(theirs, abs=1e-9)
    inside = sum(w for a, b, w in nxg.edges(data="weight") if partition.labels[a] == partition.labels[b])
    total = nxg.size(weight="weight")
    assert partition.coverage(graph) == pytest.approx(inside / total if total else 1.0)
    assert partition.largest_share == max(len(s) for s in sets) / graph.num_nodes


@given(pairs_of_labels())
def test_agreement_is_igraphs_and_symmetric(labels):
    one, two = map(partition_of, labels)
    found = one.compare(two)
    n = len(labels[0])

    def theirs(method):
        return igraph.compare_communities(one.labels.tolist(), two.labels.tolist(), method=method)

    assert found.vi == pytest.approx(theirs("vi"), abs=1e-9)
    assert found.nmi == pytest.approx(theirs("nmi"), abs=1e-9)
    if 1 < one.num_communities + two.num_communities - 1 < 2 * n - 1:  # else igraph divides 0 by 0
        assert found.ari == pytest.approx(theirs("adjusted_rand"), abs=1e-9)
    back = two.compare(one)
    assert (back.nmi, back.ari, back.vi) == pytest.approx((found.nmi, found.ari, found.vi), abs=1e-12)
    assert 0 <= found.nmi <= 1
    assert 0 <= found.vi <= math.log(n) + 1e-9


@given(pairs_of_labels())
def test_a_partition_agrees_with_itself(labels):
    one = partition_of(labels[0])
    found = one.compare(one)
    assert found.nmi == pytest.approx(1)
    assert found.ari == 1
    assert found.vi == pytest.approx(0, abs=1e-12)


def test_agreement_by_hand():
    """One community against two halves: all information is missing, and knowing the halves costs ln 2."""
    found = partition_of([0, 0, 0, 0]).compare(partition_of([0, 0, 1, 1]))
    assert (found.nmi, found.ari) == (0, 0)
    assert found.vi == pytest.approx(math.log(2))


def test_agreement_needs_no_table_of_all_pairs_of_communities():
    alone = Partition(torch.arange(200_000))
    found = alone.compare(Partition(torch.zeros(200_000, dtype=torch.int64)))
    assert found.vi == pytest.approx(math.log(200_000))


def test_measures_of_graphs_without_edges():
    for name in ("empty", "one vertex", "no edge"):
        graph = SMALL[name]()
        partition = COMMUNITIES.build("components")(graph)
        assert partition.modularity(graph) == 0
        assert partition.coverage(graph) == 1
        assert partition.largest_share == (1 / graph.num_nodes if graph.num_nodes else 0)


def test_measures_of_another_graph_are_refused():
    partition = partition_of([0, 0, 1])
    graph = graph_of(4, [(0, 1)])
    for measure in (partition.modularity, partition.coverage):
        with pytest.raises(StgraphError, match="has 3 vertices, the graph has 4"):
            measure(graph)
    with pytest.raises(StgraphError, match="has 3 vertices, the other has 1"):
        partition.compare(partition_of([0]))
    with pytest.raises(StgraphError, match="have no vertices, so they cannot be compared"):
        partition_of([]).compare(partition_of([]))


def test_measures_refuse_negative_weights_and_resolutions():
    partition, graph = partition_of([0, 0, 1]), graph_of(3, [(0, 1), (1, 2)], [0.5, -0.5])
    for measure in (partition.modularity, partition.coverage):
        with pytest.raises(StgraphError, match="but this graph has 1 edges of negative weight; prune it"):
            measure(graph)
    with pytest.raises(StgraphError, match="resolution must be a number > 0"):
        partition.modularity(graph, resolution=0)
