"""Kernels and whole selections under pytest-benchmark: ``pytest benchmarks/bench_kernels.py --benchmark-only``."""

from __future__ import annotations

import pytest
import torch

from stgraph import STSimDiff, VideoTokens, build_graph, kernels
from stgraph.community import COMMUNITIES
from stgraph.graph.merge_tree import merge_tree

from .tokens import clip

OFFSETS = [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def x(request):
    """16 frames of 14 × 14 × 1024: larger than the caches of most machines in float32."""
    return clip(16, 1024, 0.6).to(request.param)


@pytest.fixture(params=["reference", "fused"])
def kernel(request):
    with kernels.using(request.param):
        yield


def test_one_read(benchmark, x):
    benchmark(x.view(torch.float32).sum)


def test_edges(benchmark, x, kernel):
    benchmark(kernels.lattice_cosine, x, OFFSETS)


@pytest.fixture
def graph(x, kernel):
    return build_graph(VideoTokens.from_grid(x))


@pytest.fixture
def partition(graph):
    return COMMUNITIES.build("components")(graph.prune(0.8))


def test_norms(benchmark, graph):
    benchmark(kernels.norms, graph.features, graph.token)


def test_pairs(benchmark, graph):
    benchmark(kernels.edge_cosine, graph.features, graph.norm, graph.token, graph.edge_index)


def test_components(benchmark, graph):
    benchmark(COMMUNITIES.build("components"), graph.prune(0.8))


def test_merge_tree(benchmark, graph):
    benchmark(merge_tree, graph)


def test_centrality(benchmark, graph, partition):
    benchmark(graph.centrality, partition.labels, partition.sizes)


def test_ranks(benchmark, graph, partition):
    centrality = graph.centrality(partition.labels, partition.sizes)
    benchmark(kernels.community_ranks, partition.labels, partition.sizes, centrality)


def test_budget(benchmark, graph):
    tier = (graph.norm > graph.norm.median()).to(torch.uint8)
    benchmark(kernels.first_of, graph.norm, tier, graph.num_nodes * 3 // 10)


def test_selection(benchmark, x, kernel):
    benchmark(STSimDiff(), VideoTokens.from_grid(x))
