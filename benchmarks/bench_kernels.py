"""Kernels and whole selections under pytest-benchmark: ``pytest benchmarks/bench_kernels.py --benchmark-only``."""

from __future__ import annotations

import pytest
import torch

from stgraph import STSimDiff, VideoTokens, build_graph, kernels
from stgraph.community import COMMUNITIES

from .tokens import clip

OFFSETS = [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def x(request):
    """16 frames of 14 × 14 × 1024: larger than the caches of most machines in float32."""
    return clip(16, 1024, 0.6).to(request.param)


@pytest.fixture(params=["reference", "fused"])
def kernel(request):
    with kernels.use(request.param):
        yield


def test_one_read(benchmark, x):
    benchmark(x.view(torch.float32).sum)


def test_edges(benchmark, x, kernel):
    benchmark(kernels.lattice_cosine, x, OFFSETS)


def test_centrality(benchmark, x, kernel):
    graph = build_graph(VideoTokens.from_grid(x))
    partition = COMMUNITIES.build("components")(graph.prune(0.8))
    benchmark(graph.centrality, partition.labels, partition.sizes)


def test_selection(benchmark, x, kernel):
    benchmark(STSimDiff(), VideoTokens.from_grid(x))
