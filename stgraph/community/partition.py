"""Partition: which tokens belong together, how well, and how like another partition."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import StgraphError, check_number
from ..late_binding import above

if TYPE_CHECKING:
    from ..graph import SpatioTemporalGraph


@dataclass(frozen=True)
class Agreement:
    """How alike two partitions of the same vertices are.

    Attributes:
        nmi: normalised mutual information 2·I / (H₁ + H₂) in [0, 1]; 1 for equal partitions.
        ari: adjusted Rand index (Hubert and Arabie, 1985), 0 on average for unrelated partitions, 1 for equal ones.
        vi: variation of information H₁ + H₂ − 2·I (Meilă, 2007) in nats, 0 for equal partitions, at most ln V.
    """

    nmi: float
    ari: float
    vi: float


@dataclass(frozen=True, eq=False)
class Partition:
    """A community for every vertex of a graph.

    Attributes:
        labels: (V,) int64 communities 0 to m − 1, numbered by their first vertex; none spans two videos.
        method: name and parameters of the detector that made it.
        seconds: time that took.
    """

    labels: Tensor
    method: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @cached_property
    def sizes(self) -> Tensor:
        """(m,) int64 number of members of each community."""
        return torch.bincount(self.labels)

    @property
    def num_communities(self) -> int:
        """Number of communities m."""
        return len(self.sizes)

    @property
    def largest_share(self) -> float:
        """Share of the vertices that are in the largest community, 0 when there are none."""
        return int(self.sizes.max()) / len(self.labels) if len(self.labels) else 0.0

    def __repr__(self) -> str:
        largest = int(self.sizes.max()) if self.num_communities else 0
        counts = f"{self.num_communities} communities of {len(self.labels)} vertices"
        return f"Partition({counts}, largest {largest}, {self.method})"

    def _repr_html_(self) -> str:
        return str(above("partition_card")(self))

    # -- quality on a graph: the one it was found in, or another over the same vertices -------------------------------

    def modularity(self, graph: SpatioTemporalGraph, resolution: float = 1.0) -> float:
        """Weighted modularity Σ_c (W_c / W − γ (D_c / 2W)²) (Newman and Girvan, 2004), 0 for a graph without weight.

        W is the weight of all edges, W_c that of the edges inside community c, D_c the sum of its vertices' weighted
        degrees. A batch counts as one graph.

        Args:
            graph: over the same V vertices.
            resolution: γ > 0.

        Raises:
            StgraphError: the graph has another number of vertices, or edges of negative weight.
        """
        check_number("resolution", resolution, above=0)
        inside, volume = self._weights(graph, "modularity")
        total = float(volume.sum())
        if not total:
            return 0.0
        return float((2 * inside / total - resolution * (volume / total).square()).sum())

    def coverage(self, graph: SpatioTemporalGraph) -> float:
        """Share of the edge weight that lies inside communities, 1 for a graph without weight. Raises as modularity."""
        inside, volume = self._weights(graph, "coverage")
        total = float(volume.sum())
        return float(2 * inside.sum()) / total if total else 1.0

    def _weights(self, graph: SpatioTemporalGraph, measure: str) -> tuple[Tensor, Tensor]:
        """(m,) float64 weight of the edges inside each community, and volume: the sum of its weighted degrees."""
        self._check(graph.num_nodes, "the graph")
        weight = graph.edge_weight.double()
        if bool((weight < 0).any()):
            raise StgraphError(
                f"{measure} needs edge weights ≥ 0, but this graph has {int((weight < 0).sum())} edges of negative "
                "weight; prune it first at a similarity_threshold ≥ 0"
            )
        ends = self.labels[graph.edge_index]
        zero = torch.zeros(self.num_communities, dtype=torch.float64, device=self.labels.device)
        inside = zero.index_add(0, ends[0], torch.where(ends[0] == ends[1], weight, 0.0))
        return inside, zero.index_add(0, ends.flatten(), weight.repeat(2))

    def _check(self, count: int, other: str) -> None:
        if count != len(self.labels):
            raise StgraphError(
                f"the partition has {len(self.labels)} vertices, {other} has {count}; both must be of one graph"
            )

    # -- comparison ---------------------------------------------------------------------------------------------------

    def compare(self, other: Partition) -> Agreement:
        """How alike two partitions are, from their sparse contingency table: O(V log V), however many communities.

        Raises:
            StgraphError: they are of different numbers of vertices, or of none.
        """
        self._check(len(other.labels), "the other")
        n = len(self.labels)
        if not n:
            raise StgraphError(
                "the partitions have no vertices, so they cannot be compared; give partitions with at least one"
            )
        joint = self.labels.cpu() * max(other.num_communities, 1) + other.labels.cpu()
        table = torch.unique(joint, return_counts=True)[1]
        both, one, two = (counts.cpu().double() for counts in (table, self.sizes, other.sizes))
        h_both, h_one, h_two = (float(-(c / n * (c / n).log()).sum()) for c in (both, one, two))
        # I = H₁ + H₂ − H₁₂. Rounding may make a value of 0 slightly negative.
        information = max(h_one + h_two - h_both, 0.0)
        pairs, pairs_one, pairs_two = (float((c * (c - 1) / 2).sum()) for c in (both, one, two))
        expected = pairs_one * pairs_two / (n * (n - 1) / 2) if n > 1 else 0.0
        most = (pairs_one + pairs_two) / 2
        # Both have one community, or both have only singletons: then they are equal, and the formula is 0 / 0.
        ari = 1.0 if most == expected else (pairs - expected) / (most - expected)
        nmi = 2 * information / (h_one + h_two) if h_one + h_two else 1.0
        return Agreement(nmi=min(nmi, 1.0), ari=ari, vi=max(2 * h_both - h_one - h_two, 0.0))
