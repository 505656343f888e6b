"""Greedy modularity: agglomeration by the largest gain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph import SpatioTemporalGraph
from .base import CommunityDetector
from .edge_list import edge_list
from .igraph_backend import igraph_graph


@dataclass(frozen=True)
class GreedyModularity(CommunityDetector):
    """Fast greedy modularity (Clauset, Newman and Moore, 2004), by igraph.

    Starting from single vertices, the two communities whose union raises modularity most are joined, and the best of
    all stages is kept. Deterministic without a seed. Negative weights are refused, zero weights count as no edge.
    """

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        edges = edge_list(graph, "greedy")
        if not len(edges.weight):
            return torch.arange(graph.num_nodes)
        dendrogram = igraph_graph(edges, "greedy").community_fastgreedy(weights=edges.weight.tolist())
        return torch.tensor(dendrogram.as_clustering().membership, dtype=torch.int64)
