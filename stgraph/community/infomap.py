"""Infomap: communities that a random walker stays in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError, check_number
from ..graph import SpatioTemporalGraph
from ..optional import require
from .base import CommunityDetector, check_seed
from .edge_list import edge_list

BYTES = 1000
"""Memory that Infomap takes for a vertex or an edge: 500 to 550 bytes measured on token lattices, with a margin."""


@dataclass(frozen=True)
class Infomap(CommunityDetector):
    """Infomap (Rosvall and Bergstrom, 2008), by its authors' library.

    The partition, in one level, that describes a random walk over the edges in the fewest bits. Deterministic under the
    seed. Negative weights are refused, zero weights count as no edge.

    Attributes:
        trials: independent runs, of which the shortest description is kept.
        memory_limit: GiB that it may take; a graph that needs more is refused with the estimate.
        seed: of the order in which vertices are visited.
    """

    trials: int = 1
    memory_limit: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("trials", self.trials, at_least=1, integer=True)
        check_number("memory_limit", self.memory_limit, above=0)
        check_seed(self.seed)

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        edges = edge_list(graph, "infomap")
        estimate = BYTES * (graph.num_nodes + len(edges.weight)) / 2**30
        if estimate > self.memory_limit:
            raise StgraphError(
                f"infomap needs about {estimate:.2g} GiB for {graph.num_nodes} vertices and {len(edges.weight)} edges, "
                f"more than its memory_limit of {self.memory_limit:g} GiB; raise the limit, prune further or use leiden"
            )
        labels = torch.arange(graph.num_nodes)
        if not len(edges.weight):
            return labels
        library = require("infomap", extra="graph", needed_by="infomap")
        network = library.Network()
        # The random walk never visits vertices without an edge, and Infomap would place them anywhere: leave them out.
        network.add_links(np.column_stack([edges.pairs, edges.weight]))
        modules = library.run(network, two_level=True, num_trials=self.trials, seed=self.seed + 1).modules()
        labels[list(modules)] = graph.num_nodes + torch.tensor(list(modules.values()))
        return labels
