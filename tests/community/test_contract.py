"""One contract for every detector: each registered one, the backends and variants, and one that is not stgraph's."""

from __future__ import annotations

import json
import random

import pytest
import torch

from stgraph import StgraphError, build_graph
from stgraph.community import COMMUNITIES
from stgraph.community.base import by_first_appearance

from .graphs import SMALL, regions

PLUGIN = "tests.community.plugin:Chessboard"

LONG = ("multiplex",)
"""Detectors that take more than ten seconds for fifty thousand vertices."""

SPECS = [
    *({"name": name} for name in COMMUNITIES),
    {"name": "components", "backend": "torch"},
    {"name": "louvain", "backend": "networkx", "seed": 3},
    {"name": "louvain", "resolution": 2.0, "seed": 1},
    {"name": "leiden", "backend": "leidenalg", "iterations": -1},
    {"name": "leiden", "backend": "leidenalg", "max_size": 4},
    {"name": "leiden", "objective": "cpm"},
    {"name": "leiden", "objective": "cpm", "backend": "leidenalg", "resolution": 0.2},
    {"name": "multiplex", "spatial": 0.0, "objective": "cpm", "max_size": 5},
    {"name": "infomap", "trials": 2, "seed": 5},
    {"name": "spectral", "clusters": 4},
    {"name": "sqrt_split", "bound": 3, "detector": {"name": "leiden", "seed": 2}},
    {"name": "composed", "first": "leiden", "second": {"name": "sqrt_split", "bound": 2}},
    {"name": PLUGIN, "shift": 1},
]


def describe(spec):
    return json.dumps(spec).replace('"', "")


@pytest.mark.parametrize("graph_name", list(SMALL))
@pytest.mark.parametrize("spec", SPECS, ids=describe)
def test_contract(spec, graph_name):
    graph = SMALL[graph_name]()
    tensors = {name: value.clone() for name, value in vars(graph).items() if isinstance(value, torch.Tensor)}
    detector = COMMUNITIES.build(spec)
    partition = detector(graph)

    assert partition.labels.dtype == torch.int64
    assert partition.labels.shape == (graph.num_nodes,)
    assert torch.equal(partition.labels, by_first_appearance(partition.labels)), "numbered 0, 1, ... by first vertex"
    for community in range(partition.num_communities):
        assert len(graph.batch[partition.labels == community].unique()) == 1, "no community spans two videos"
    assert int(partition.sizes.sum()) == graph.num_nodes
    assert partition.seconds >= 0

    again = detector(graph)
    assert torch.equal(partition.labels, again.labels), "the same call gives the same communities"
    for video in range(graph.num_videos):
        alone = detector(graph.video(video)).labels
        assert torch.equal(by_first_appearance(partition.labels[graph.batch == video]), alone), "a batch is its videos"

    for name, value in tensors.items():
        assert torch.equal(getattr(graph, name), value), f"{name} was changed"
    config = json.loads(json.dumps(COMMUNITIES.config(detector)))
    assert COMMUNITIES.build(config) == detector
    assert partition.method == config


@pytest.mark.parametrize("graph_name", list(SMALL))
@pytest.mark.parametrize("spec", [s for s in SPECS if s["name"] != PLUGIN], ids=describe)
def test_vertices_without_edges_stay_alone(spec, graph_name):
    graph = SMALL[graph_name]()
    partition = COMMUNITIES.build(spec)(graph)
    joined = torch.zeros(graph.num_nodes, dtype=torch.bool)
    joined[graph.edge_index.flatten()] = True
    assert bool((partition.sizes[partition.labels[~joined]] == 1).all())


@pytest.fixture(scope="module")
def many():
    """50,176 vertices: 256 frames of 14 × 14 tokens in shots and regions, pruned as the paper prunes."""
    tokens, _ = regions(256, 14, block=7, shot=16, noise=0.47)
    return build_graph(tokens).prune(0.8)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in (*COMMUNITIES, PLUGIN)]
)
def test_fifty_thousand_vertices(name, many):
    partition = COMMUNITIES.build(name)(many)
    assert len(partition.labels) == many.num_nodes == 50_176
    assert int(partition.sizes.sum()) == many.num_nodes
    assert partition.seconds < 120


def test_spectral_refuses_a_giant_component_with_its_estimate(many):
    everything = build_graph(regions(256, 14, block=14, shot=256, noise=0.1)[0])
    with pytest.raises(
        StgraphError, match=r"spectral would need about \d+ MiB and \d+ s for a component of 50176 vertices"
    ):
        COMMUNITIES.build("spectral")(everything)


def test_infomap_refuses_a_graph_above_its_memory_limit(many):
    with pytest.raises(StgraphError, match=r"infomap needs about 0\.\d+ GiB for 50176 vertices and \d+ edges"):
        COMMUNITIES.build({"name": "infomap", "memory_limit": 0.01})(many)


@pytest.mark.parametrize("name", list(COMMUNITIES))
def test_randomness_of_the_process_is_left_alone(name):
    graph = SMALL["planted"]()
    random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), torch.get_rng_state()
    labels = COMMUNITIES.build(name)(graph).labels
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    random.seed(2)
    torch.manual_seed(2)
    assert torch.equal(COMMUNITIES.build(name)(graph).labels, labels)


@pytest.mark.parametrize("name", ["louvain", "leiden", "label_propagation"])
def test_the_seed_matters(name):
    graph = SMALL["ties"]()
    found = {tuple(COMMUNITIES.build({"name": name, "seed": seed})(graph).labels.tolist()) for seed in range(8)}
    assert len(found) > 1


@pytest.mark.parametrize(("name", "got"), [("TooFew", r"\(79,\)"), ("Fractions", r"\(80,\)"), ("NoTensor", "list")])
def test_labels_of_a_plugin_that_are_none_name_it(name, got):
    with pytest.raises(
        StgraphError, match=f"{name} must return one whole-number label for each of 80 vertices, got {got}"
    ):
        COMMUNITIES.build(f"tests.community.plugin:{name}")(SMALL["one giant component"]())
