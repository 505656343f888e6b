"""Detectors on a GPU give what they give on the CPU. Run with ``pytest -m gpu``; cuGraph's need ``[cugraph]``."""

from __future__ import annotations

import pytest
import torch

from stgraph import VideoTokens, build_graph
from stgraph.community import COMMUNITIES

from ..strategies import features
from .graphs import blocks, regions

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def pair():
    """The same graph on the CPU and on the GPU, edge weights equal bit by bit."""
    graph = build_graph(regions(16, 14, block=7, shot=8, noise=0.45)[0]).prune(0.8)
    moved = {name: value.cuda() for name, value in vars(graph).items() if isinstance(value, torch.Tensor)}
    return graph, type(graph)(**{**vars(graph), **moved})


@pytest.mark.parametrize("spec", ["components", "label_propagation", "sqrt_split", "leiden", "composed"])
def test_the_device_of_the_graph_changes_nothing(spec, pair):
    on_cpu, on_gpu = (COMMUNITIES.build(spec)(graph) for graph in pair)
    assert on_gpu.labels.device.type == "cuda"
    assert torch.equal(on_gpu.labels.cpu(), on_cpu.labels)


def test_measures_on_the_gpu(pair):
    on_cpu, on_gpu = (COMMUNITIES.build("components")(graph) for graph in pair)
    assert on_gpu.modularity(pair[1]) == pytest.approx(on_cpu.modularity(pair[0]))
    assert on_gpu.compare(on_cpu).ari == 1


@pytest.mark.parametrize("where", [0, 1])
def test_cugraph_components_are_scipys(pair, where):
    found = COMMUNITIES.build({"name": "components", "backend": "cugraph"})(pair[where])
    assert torch.equal(found.labels.cpu(), COMMUNITIES.build("components")(pair[0]).labels)
    assert found.labels.device == pair[where].token.device


@pytest.mark.parametrize("name", ["louvain", "leiden"])
def test_cugraph_modularity_is_igraphs_within_tolerance(pair, name):
    found = COMMUNITIES.build({"name": name, "backend": "cugraph"})(pair[1])
    expected = COMMUNITIES.build(name)(pair[0])
    assert found.modularity(pair[1]) == pytest.approx(expected.modularity(pair[0]), abs=0.03)


@pytest.mark.parametrize("name", ["louvain", "leiden"])
def test_cugraph_finds_planted_blocks(name):
    graph, _ = blocks()
    expected = COMMUNITIES.build(name)(graph)
    assert COMMUNITIES.build({"name": name, "backend": "cugraph"})(graph).compare(expected).ari >= 0.95


@pytest.mark.parametrize("name", ["components", "louvain", "leiden"])
def test_cugraph_leaves_vertices_without_edges_alone(name):
    graph = build_graph(VideoTokens.from_grid(features(3, 4, 4, 16, seed=0)))
    graph = graph.take_edges((graph.edge_index > 5).all(0))
    labels = COMMUNITIES.build({"name": name, "backend": "cugraph"})(graph).labels
    assert labels[:6].tolist() == list(range(6))
    assert int(labels[6:].min()) >= 6
    empty = graph.take_edges(torch.zeros(graph.num_edges, dtype=torch.bool))
    assert COMMUNITIES.build({"name": name, "backend": "cugraph"})(empty).num_communities == graph.num_nodes
