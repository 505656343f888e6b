"""Communities that are known: planted ones are found, and the libraries' own results are reproduced."""

from __future__ import annotations

import random

import igraph
import leidenalg
import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import Partition, VideoTokens, build_graph
from stgraph.community import COMMUNITIES
from stgraph.community.base import by_first_appearance
from stgraph.community.components import torch_components

from ..strategies import features, videos
from .graphs import SMALL, all_connected, blocks, graph_of, members, regions, to_networkx


def agreement(partition, truth):
    return partition.compare(Partition(by_first_appearance(torch.as_tensor(truth))))


@pytest.mark.parametrize(
    "spec",
    [
        "louvain",
        {"name": "louvain", "backend": "networkx"},
        "leiden",
        {"name": "leiden", "backend": "leidenalg"},
        {"name": "leiden", "objective": "cpm", "resolution": 0.2},
        {"name": "leiden", "objective": "cpm", "resolution": 0.2, "backend": "leidenalg"},
        {"name": "leiden", "resolution": 0.5, "backend": "leidenalg", "max_size": 20},
        "multiplex",
        "label_propagation",
        "infomap",
        "greedy",
        "spectral",
        {"name": "spectral", "clusters": 6},
        "composed",
        {"name": "sqrt_split", "detector": "leiden", "bound": 20},
    ],
    ids=str,
)
def test_planted_blocks_are_found(spec):
    graph, truth = blocks()
    assert agreement(COMMUNITIES.build(spec)(graph), truth).ari >= 0.95


@pytest.mark.parametrize(
    "spec",
    [
        "components",
        "louvain",
        "leiden",
        "multiplex",
        "greedy",
        {"name": "spectral", "clusters": 8},
        {"name": "composed", "first": "leiden", "second": "components"},
        {"name": "sqrt_split", "bound": 64},
    ],
    ids=str,
)
def test_regions_of_a_video_are_found(spec):
    """Two shots of 4 frames, each a checkerboard of four 4 × 4 regions: eight communities of 64 tokens.

    Not by what looks for dense groups only: a lattice has none, so label propagation, Infomap and Leiden inside
    components rightly go on and split the regions.
    """
    tokens, truth = regions(8, 8, block=4, shot=4, noise=0.2)
    assert agreement(COMMUNITIES.build(spec)(build_graph(tokens).prune(0.8)), truth).ari >= 0.95


def test_multiplex_tells_apart_what_one_layer_joins():
    """Strong temporal edges outweigh the spatial ones until their layer is given less weight."""
    chains = [(i, i + 1) for i in range(19) if i != 9]
    rungs = [(i, i + 10) for i in range(10)]
    spatial, temporal = graph_of(20, chains), graph_of(20, rungs, kind=1)
    joined = {
        name: torch.cat([getattr(spatial, name), getattr(temporal, name)], dim=-1)
        for name in ("edge_index", "edge_weight", "edge_kind")
    }
    graph = type(spatial)(**{**vars(spatial), **joined})
    along = COMMUNITIES.build({"name": "multiplex", "temporal": 0.0})(graph)
    across = COMMUNITIES.build({"name": "multiplex", "spatial": 0.0})(graph)
    assert all(all(v < 10 for v in c) or all(v >= 10 for v in c) for c in members(along.labels))
    assert members(across.labels) == [{i, i + 10} for i in range(10)]


def test_composed_escapes_the_resolution_limit():
    """Thirty rings of five triangles: modularity of the whole joins triangles, ring by ring each one is found."""
    edges, truth = [], []
    for ring in range(30):
        base = 15 * ring
        for triangle in range(5):
            a = base + 3 * triangle
            edges += [(a, a + 1), (a + 1, a + 2), (a, a + 2), (a + 2, base + (3 * triangle + 3) % 15)]
            truth += [5 * ring + triangle] * 3
    graph = graph_of(450, edges)
    assert agreement(COMMUNITIES.build("composed")(graph), truth).ari == 1
    assert agreement(COMMUNITIES.build("leiden")(graph), truth).ari < 0.5


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("graph_name", ["planted", "one giant component", "disconnected"])
def test_louvain_and_leiden_are_the_librarys_own(graph_name, seed):
    graph = SMALL[graph_name]()
    ig = igraph.Graph(graph.num_nodes, edges=sorted(graph.edge_index.T.tolist()))
    weight = dict(zip(map(tuple, graph.edge_index.T.tolist()), graph.edge_weight.tolist(), strict=True))
    ig.es["weight"] = [weight[e.tuple] for e in ig.es]
    own = {}
    try:
        igraph.set_random_number_generator(random.Random(seed))
        own["louvain"] = ig.community_multilevel(weights="weight")
        igraph.set_random_number_generator(random.Random(seed))
        own["leiden"] = ig.community_leiden("modularity", weights="weight")
    finally:
        igraph.set_random_number_generator(random)
    own["leidenalg"] = leidenalg.find_partition(
        ig, leidenalg.ModularityVertexPartition, weights="weight", n_iterations=2, seed=seed
    )
    specs = {
        "louvain": {"name": "louvain", "seed": seed},
        "leiden": {"name": "leiden", "seed": seed},
        "leidenalg": {"name": "leiden", "seed": seed, "backend": "leidenalg"},
    }
    for name, spec in specs.items():
        partition = COMMUNITIES.build(spec)(graph)
        assert partition.modularity(graph) == pytest.approx(
            ig.modularity(own[name].membership, weights="weight"), abs=1e-9
        )
    # Their numbers of the same graph: the libraries' modularity functions and ours agree.
    nxg = to_networkx(graph)
    partition = COMMUNITIES.build({"name": "louvain", "backend": "networkx", "seed": seed})(graph)
    theirs = nx.community.louvain_communities(nxg, seed=seed)
    assert partition.modularity(graph) == pytest.approx(nx.community.modularity(nxg, theirs), abs=1e-9)


CONNECTED = [
    {"name": "components"},
    {"name": "leiden"},
    {"name": "leiden", "iterations": -1, "resolution": 0.3},
    {"name": "leiden", "backend": "leidenalg"},
    {"name": "leiden", "backend": "leidenalg", "max_size": 6},
    {"name": "leiden", "objective": "cpm"},
    {"name": "leiden", "objective": "cpm", "backend": "leidenalg"},
    {"name": "multiplex"},
    {"name": "label_propagation"},
    {"name": "composed"},
    {"name": "sqrt_split", "bound": 3},
]


@pytest.mark.parametrize("spec", CONNECTED, ids=str)
@given(videos(dtypes=False), st.sampled_from([0.0, 0.5, 0.8]), st.integers(0, 3))
@settings(max_examples=30)
def test_communities_are_connected(spec, tokens, threshold, seed):
    graph = build_graph(tokens).prune(threshold)
    graph = graph.take_edges(graph.edge_weight > 0)  # a zero vector has edges of no weight
    spec = spec | ({"seed": seed} if spec["name"] in ("leiden", "multiplex", "label_propagation") else {})
    assert all_connected(graph, COMMUNITIES.build(spec)(graph).labels)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", [s for s in CONNECTED if s["name"] in ("leiden", "multiplex", "sqrt_split")], ids=str)
def test_communities_of_a_larger_video_are_connected(spec, seed):
    graph = build_graph(VideoTokens.from_grid(features(8, 12, 12, 16, seed, noise=0.6))).prune(0.1)
    assert all_connected(graph, COMMUNITIES.build(spec)(graph).labels)


@given(videos(dtypes=False), st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_leidenalg_keeps_the_maximum_size(tokens, size, potts, seed):
    graph = build_graph(tokens).prune(0.0)
    spec = {"max_size": size, "backend": "leidenalg", "objective": "cpm" if potts else "modularity", "seed": seed}
    assert int(COMMUNITIES.build({"name": "leiden", **spec})(graph).sizes.max()) <= size
    del spec["backend"]
    assert int(COMMUNITIES.build({"name": "multiplex", **spec})(graph).sizes.max()) <= size


@pytest.mark.parametrize("objective", ["modularity", "cpm"])
@pytest.mark.parametrize("size", [2, 10])
def test_a_maximum_size_binds_on_a_larger_video(objective, size):
    graph = build_graph(VideoTokens.from_grid(features(8, 12, 12, 16, seed=0, noise=0.2))).prune(0.5)
    spec = {"name": "leiden", "backend": "leidenalg", "objective": objective}
    assert int(COMMUNITIES.build(spec)(graph).sizes.max()) > size
    partition = COMMUNITIES.build(spec | {"max_size": size})(graph)
    assert int(partition.sizes.max()) == size
    assert all_connected(graph, partition.labels)


@given(st.integers(1, 40), st.data())
def test_torch_components_are_networkx(n, data):
    edges = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60))
    graph = nx.empty_graph(n)
    graph.add_edges_from(edges)
    labels = torch_components(n, torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T)
    assert sorted(map(sorted, members(labels))) == sorted(map(sorted, nx.connected_components(graph)))


def test_torch_components_of_a_long_scrambled_path():
    order = torch.randperm(100_000, generator=torch.Generator().manual_seed(0))
    path = torch.stack([order[:-1], order[1:]])
    assert int(torch_components(100_000, path).sum()) == 0
    cut = torch.cat([path[:, :50_000], path[:, 50_001:]], 1)
    assert len(torch_components(100_000, cut).unique()) == 2


@given(videos(dtypes=False), st.integers(0, 3))
@settings(max_examples=50)
def test_label_propagation_rests_where_every_label_is_a_heaviest_one(tokens, seed):
    graph = build_graph(tokens).prune(0.3)
    partition = COMMUNITIES.build({"name": "label_propagation", "seed": seed})(graph)
    # Groups that were not connected were told apart at the end, which takes no neighbour's vote away.
    votes: dict[int, dict[int, float]] = {}
    for (a, b), w in zip(graph.edge_index.T.tolist(), graph.edge_weight.tolist(), strict=True):
        for vertex, other in ((a, b), (b, a)):
            of = votes.setdefault(vertex, {})
            of[int(partition.labels[other])] = of.get(int(partition.labels[other]), 0.0) + w
    for vertex, of in votes.items():
        assert of.get(int(partition.labels[vertex]), 0.0) == pytest.approx(max(of.values()))


def test_spectral_splits_a_dumbbell_at_its_bar_and_a_clique_not_at_all():
    cliques = [(a, b) for start in (0, 10) for a in range(start, start + 10) for b in range(a + 1, start + 10)]
    graph = graph_of(30, [*cliques, (9, 10), *((a, b) for a in range(20, 30) for b in range(a + 1, 30))])
    expected = [set(range(10)), set(range(10, 20)), set(range(20, 30))]
    assert members(COMMUNITIES.build("spectral")(graph).labels) == expected


def test_spectral_sparse_solver_agrees_with_the_dense_one(monkeypatch):
    tokens, truth = regions(4, 12, block=6, shot=4, noise=0.2)
    graph = build_graph(tokens).prune(0.05)
    detector = COMMUNITIES.build({"name": "spectral", "clusters": 4})
    assert graph.num_nodes > 400
    sparse = detector(graph)
    monkeypatch.setattr("stgraph.community.spectral._DENSE", 1000)
    assert agreement(sparse, truth).ari == agreement(detector(graph), truth).ari == 1
