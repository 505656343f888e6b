"""Agglomerative clustering: single linkage, stopped at a wanted number or size of communities."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from ..graph.merge_tree import merge_tree
from .base import CommunityDetector


@dataclass(frozen=True)
class Agglomerative(CommunityDetector):
    """Single-linkage communities: the most similar neighbours merge first, until a target is met.

    Every video has a threshold of its own, so no threshold has to fit them all. The graph that it is given
    bounds it from below: parts that no edge joins are never merged. In ST-SimDiff that is the graph pruned at τ_sim;
    set ``similarity_threshold=-1`` to leave the threshold to this method alone. Equal weights merge in the order of the
    graph's edges, so that the wanted number is met exactly. Exact, O(E log E), without a seed; any weights.

    Source: single linkage by a maximum spanning forest (Gower and Ross, 1969), see :mod:`stgraph.graph.merge_tree`.

    Attributes:
        communities: wanted number in each video, ≥ 1; merging stops there. None for ⌈√V⌉ of V vertices, as many
            communities as their average has members.
        largest: merging stops before any community would have more vertices than this, ≥ 1; None for no bound.
    """

    communities: int | None = None
    largest: int | None = None

    def __post_init__(self) -> None:
        for name in ("communities", "largest"):
            if getattr(self, name) is not None:
                check_number(f"agglomerative {name}", getattr(self, name), at_least=1, integer=True)

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        tree = merge_tree(graph)
        wanted = math.ceil(math.sqrt(graph.num_nodes)) if self.communities is None else self.communities
        merges = min(max(graph.num_nodes - wanted, 0), tree.num_merges)
        if self.largest is not None:
            too_large = (tree.part.sum(0) > self.largest).nonzero()
            merges = min(merges, int(too_large[0])) if len(too_large) else merges
        return tree.communities_after(merges)
