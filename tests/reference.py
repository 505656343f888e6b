"""ST-SimDiff by brute force: dense float64 matrices, networkx, Python loops; written from the paper alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import networkx as nx
import numpy as np

from stgraph import VideoTokens

TOLERANCE = 2e-5  # two centralities closer than this may be ranked either way


def decimal(share: float) -> Fraction:
    """A share whose product with a count is rounded up: less what floating point may have added to it."""
    exact = Fraction(repr(share))
    return exact - Fraction(1, 10**12) if exact > Fraction(2, 10**12) else exact


@dataclass
class Reference:
    """What the paper says of one video."""

    vertices: list[int]
    edges: dict[tuple[int, int], float]
    temporal: set[tuple[int, int]]
    communities: list[list[int]]
    centrality: dict[int, float]
    events: set[int]

    def quota(self, community: list[int], retention: float) -> int:
        return math.ceil(decimal(retention) * len(community))


def reference(tokens: VideoTokens, similarity_threshold: float = 0.8, difference_threshold: float = 0.2) -> Reference:
    """The graph, communities, centralities and events of a single video."""
    x = tokens.features.double().numpy()
    length = np.sqrt((x**2).sum(1))
    unit = np.divide(x, length[:, None], out=np.zeros_like(x), where=length[:, None] > 0)
    cosine = np.clip(unit @ unit.T, -1, 1)
    vertices = [i for i in range(len(tokens)) if not tokens.separator[i]]
    place = {tuple(tokens.coords[i].tolist()): i for i in vertices}
    edges, temporal = {}, set()
    for (t, y, c), i in place.items():
        for other in ((t, y, c + 1), (t, y + 1, c), (t + 1, y, c)):
            if other in place:
                edges[i, place[other]] = cosine[i, place[other]]
                if other[0] != t:
                    temporal.add((i, place[other]))
    graph = nx.Graph()
    graph.add_nodes_from(vertices)
    graph.add_edges_from(e for e, w in edges.items() if w >= similarity_threshold - 4e-7)
    communities = sorted((sorted(c) for c in nx.connected_components(graph)), key=lambda c: c[0])
    centrality = {}
    for community in communities:
        for a in community:
            others = [cosine[a, b] for b in community if b != a]
            centrality[a] = sum(others) / len(others) if others else 0.0
    events = {b for a, b in temporal if edges[a, b] < difference_threshold - 4e-7}
    return Reference(vertices, edges, temporal, communities, centrality, events)
