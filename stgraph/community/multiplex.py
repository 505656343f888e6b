"""Multiplex Leiden: spatial and temporal edges as two layers over the same tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import check_choice, check_number
from ..graph import SpatioTemporalGraph
from ..graph.edges import SPATIAL, TEMPORAL
from ..optional import require
from .base import CommunityDetector, check_seed
from .edge_list import edge_list
from .igraph_backend import igraph_graph
from .leiden import RESOLUTION, check_leiden, optimiser, quality


@dataclass(frozen=True)
class MultiplexLeiden(CommunityDetector):
    """Leiden over two layers (Mucha et al., 2010; leidenalg): one partition that is good in space and in time at once.

    The quality is ``spatial`` · Q(spatial edges) + ``temporal`` · Q(temporal edges), so that each layer is judged
    against what is to be expected in that layer, and the many spatial edges do not drown the temporal ones.
    Modularity is not divided by a layer's total weight, so a layer counts by its edges times its weight.
    Deterministic under the seed. Communities are connected in the layers together. Zero weights count as no edge,
    negative ones are refused for modularity.

    Attributes:
        spatial: weight ≥ 0 of the layer of spatial edges.
        temporal: weight ≥ 0 of the layer of temporal edges.
        objective: ``"modularity"`` or ``"cpm"``, as for Leiden.
        resolution: γ > 0 in both layers; None: 1 for modularity, 0.05 for the constant Potts model.
        max_size: vertices that a community may have, or None.
        iterations: passes over the graph; −1 continues until nothing changes.
        seed: of the order in which vertices are visited and of the refinement.
    """

    spatial: float = 1.0
    temporal: float = 1.0
    objective: Literal["modularity", "cpm"] = "modularity"
    resolution: float | None = None
    max_size: int | None = None
    iterations: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("spatial", self.spatial, at_least=0)
        check_number("temporal", self.temporal, at_least=0)
        check_choice("objective", self.objective, ("modularity", "cpm"))
        check_leiden(self.resolution, self.max_size, self.iterations)
        check_seed(self.seed)

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        if not graph.num_nodes:
            return graph.token
        leidenalg = require("leidenalg", extra="graph", needed_by="multiplex")
        layers = []
        for kind in (SPATIAL, TEMPORAL):
            layer = graph.take_edges(graph.edge_kind == kind)
            edges = edge_list(layer, "multiplex with objective='modularity'", negative=self.objective == "cpm")
            layers.append(
                quality(leidenalg, self.objective)(
                    igraph_graph(edges, "multiplex"),
                    weights=edges.weight.tolist(),
                    resolution_parameter=RESOLUTION[self.objective] if self.resolution is None else self.resolution,
                )
            )
        optimiser(leidenalg, self.max_size, self.seed).optimise_partition_multiplex(
            layers, layer_weights=[self.spatial, self.temporal], n_iterations=self.iterations
        )
        return torch.tensor(layers[0].membership, dtype=torch.int64)
