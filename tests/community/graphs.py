"""Graphs to find communities in, and what is true of them by brute force."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from stgraph import SpatioTemporalGraph, VideoTokens, build_graph
from stgraph.graph.edges import SPATIAL

from ..strategies import features


def graph_of(
    num_nodes: int, edges: Sequence[tuple[int, int]], weight: Sequence[float] | None = None, kind: int = SPATIAL
) -> SpatioTemporalGraph:
    """Any weighted graph; its features are random and have nothing to do with the weights."""
    token = torch.arange(num_nodes)
    x = torch.randn(num_nodes, 8, generator=torch.Generator().manual_seed(num_nodes))
    return SpatioTemporalGraph(
        edge_index=torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T,
        edge_weight=torch.ones(len(edges)) if weight is None else torch.tensor(weight, dtype=torch.float32),
        edge_kind=torch.full((len(edges),), kind, dtype=torch.uint8),
        coords=torch.stack([token, torch.zeros_like(token), torch.zeros_like(token)], 1),
        batch=torch.zeros_like(token),
        num_videos=1,
        features=x,
        token=token,
        norm=x.double().norm(dim=1),
    )


def blocks(count: int = 6, size: int = 20, seed: int = 0) -> tuple[SpatioTemporalGraph, list[int]]:
    """Blocks that are dense and heavy inside, sparse and light between; and the block of each vertex."""
    random = np.random.default_rng(seed)
    truth = random.permutation(np.repeat(np.arange(count), size))
    n = len(truth)
    first, second = np.triu_indices(n, 1)
    same = truth[first] == truth[second]
    joined = random.random(len(first)) < np.where(same, 0.7, 0.02)
    weight = np.where(same, 0.9, 0.3)[joined]
    return graph_of(
        n, list(zip(first[joined].tolist(), second[joined].tolist(), strict=True)), weight.tolist()
    ), truth.tolist()


def regions(
    frames: int, side: int, *, block: int, shot: int, noise: float, dim: int = 32
) -> tuple[VideoTokens, Tensor]:
    """A checkerboard video, square regions of one prototype each, new with every shot; and the region of each token."""
    g = torch.Generator().manual_seed(0)
    t, y, x = torch.meshgrid(torch.arange(frames), torch.arange(side), torch.arange(side), indexing="ij")
    across = -(-side // block)
    region = ((t // shot) * across + y // block) * across + x // block
    prototypes = torch.randn(int(region.max()) + 1, dim, generator=g)
    grid = prototypes[region] + noise * torch.randn(frames, side, side, dim, generator=g)
    return VideoTokens.from_grid(grid), region.flatten()


def _lattice(seed: int) -> SpatioTemporalGraph:
    return build_graph(VideoTokens.from_grid(features(4, 4, 5, 16, seed)))


def _two_videos() -> SpatioTemporalGraph:
    grids = [features(3, 4, 4, 16, seed=1), features(2, 5, 3, 16, seed=2)]
    return build_graph(VideoTokens.from_grid(grids)).prune(0.3)


SMALL = {
    "empty": lambda: graph_of(0, []),
    "one vertex": lambda: graph_of(1, []),
    "no edge": lambda: graph_of(7, []),
    "one edge": lambda: graph_of(3, [(0, 2)], [0.5]),
    "zero weights": lambda: graph_of(4, [(0, 1), (1, 2)], [0.0, 0.5]),
    "parallel edges": lambda: graph_of(5, [(0, 1), (1, 0), (1, 2), (3, 4), (3, 4)], [0.5, 0.25, 0.5, 0.1, 0.9]),
    "one giant component": lambda: _lattice(0).prune(0.0),
    "disconnected": lambda: _lattice(3).prune(0.8),
    "ties": lambda: build_graph(VideoTokens.from_grid(torch.ones(3, 5, 5, 4))),
    "planted": lambda: blocks(3, 8)[0],
    "batch of two videos": _two_videos,
    "batch with an empty video": lambda: _with_an_empty_video(),
}
"""Small graphs with edges of no negative weight, by name."""


def _with_an_empty_video() -> SpatioTemporalGraph:
    parts = [VideoTokens.from_grid(features(2, 3, 3, 16, seed=seed)) for seed in (1, 2, 3)]
    tokens = VideoTokens.cat(parts)
    return build_graph(tokens.take((tokens.batch != 1).nonzero()[:, 0])).prune(0.2)


def to_networkx(graph: SpatioTemporalGraph) -> nx.Graph:
    """The same simple weighted graph."""
    result = nx.empty_graph(graph.num_nodes)
    for (a, b), w in zip(graph.edge_index.T.tolist(), graph.edge_weight.tolist(), strict=True):
        result.add_edge(a, b, weight=w)
    return result


def members(labels: Tensor) -> list[set[int]]:
    """The vertices of each community."""
    found: dict[int, set[int]] = {}
    for vertex, label in enumerate(labels.tolist()):
        found.setdefault(label, set()).add(vertex)
    return list(found.values())


def all_connected(graph: SpatioTemporalGraph, labels: Tensor) -> bool:
    """Whether every community is connected by edges inside it."""
    whole = to_networkx(graph)
    return all(nx.is_connected(whole.subgraph(community)) for community in members(labels))
