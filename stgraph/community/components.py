"""Connected components: the paper's default community detector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph import SpatioTemporalGraph
from .base import CommunityDetector


@dataclass(frozen=True)
class ConnectedComponents(CommunityDetector):
    """Vertices that are joined by any path of edges form one community (paper, design 2).

    Linear in the number of edges, exact, without a seed. Run it on a graph pruned at τ_sim.
    """

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) component of each vertex."""
        from scipy.sparse.csgraph import connected_components

        _, labels = connected_components(graph.to_scipy(), directed=False)
        return torch.from_numpy(labels).long()
