"""Spatial difference: a token against its neighbourhood in the frame."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..graph import SpatioTemporalGraph
from ..graph.edges import SpatialEdges
from .threshold import Threshold


@dataclass(frozen=True)
class Spatial(Threshold):
    """Tokens unlike their neighbours in the frame: 1 − the mean cosine to them.

    Sees what stands out in space: small objects, text, edges of things, from the first frame on. Blind to time: what
    stands out is marked in every frame that shows it, and a cut between two even pictures is nothing.

    Source: the answer to the paper's "temporal-only difference" limitation; local contrast as in the saliency model of
    Itti, Koch and Niebur (IEEE TPAMI 1998), on cosine similarity.

    Attributes:
        threshold: mean similarity to the neighbours strictly below which a token is marked, in [−1, 1].
        connectivity: 4 or 8 neighbours, fewer at the border.
    """

    connectivity: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        SpatialEdges(self.connectivity)

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32; 0 for a token without neighbours."""
        total, count = graph.norm.new_zeros((2, graph.num_nodes))
        for offset in SpatialEdges(self.connectivity).offsets:
            pairs = graph.pairs(offset)
            drop = 1 - graph.similarity(pairs).double()
            for end in pairs:  # within one offset a vertex is an end only once
                total[end] += drop
                count[end] += 1
        mean: Tensor = total / count.clamp_(min=1)
        return mean.float()
