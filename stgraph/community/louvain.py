"""Louvain: modularity by local moves and aggregation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import check_choice, check_number
from ..graph import SpatioTemporalGraph
from ..optional import require
from .base import CommunityDetector, check_seed
from .edge_list import edge_list
from .igraph_backend import igraph_graph, seeded


@dataclass(frozen=True)
class Louvain(CommunityDetector):
    """Louvain (Blondel, Guillaume, Lambiotte and Lefebvre, 2008): the paper's first alternative to components.

    Vertices move to the neighbouring community that raises modularity most, communities become vertices, and again.
    Deterministic under the seed with igraph and networkx. cuGraph takes no seed and promises no repeatability.
    Communities may fall apart inside (Leiden's do not). Negative weights are refused, zero weights count as no edge.

    Attributes:
        resolution: γ > 0 of modularity; larger gives more and smaller communities.
        backend: ``"igraph"`` (fastest on a CPU), ``"networkx"``, ``"cugraph"`` (NVIDIA GPU).
        seed: of the order in which vertices are visited.
    """

    resolution: float = 1.0
    backend: Literal["igraph", "networkx", "cugraph"] = "igraph"
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("resolution", self.resolution, above=0)
        check_choice("backend", self.backend, ("igraph", "networkx", "cugraph"))
        check_seed(self.seed)

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        if self.backend == "cugraph":
            from . import cugraph_backend

            return cugraph_backend.louvain(graph, self.resolution)
        edges = edge_list(graph, "louvain")
        weight = edges.weight.tolist()
        if self.backend == "igraph":
            ig = igraph_graph(edges, "louvain")
            with seeded(self.seed):
                return torch.tensor(
                    ig.community_multilevel(weight, resolution=self.resolution).membership, dtype=torch.int64
                )
        networkx = require("networkx", extra="graph", needed_by="louvain with backend='networkx'")
        nx = networkx.empty_graph(edges.num_nodes)
        nx.add_weighted_edges_from(zip(*edges.pairs.T.tolist(), weight, strict=True))
        labels = torch.empty(edges.num_nodes, dtype=torch.int64)
        communities = networkx.community.louvain_communities(nx, resolution=self.resolution, seed=self.seed)
        for number, members in enumerate(communities):
            labels[list(members)] = number
        return labels
