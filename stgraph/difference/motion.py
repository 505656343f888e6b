"""Motion-compensated difference: content that was nowhere near in the previous frame."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .threshold import Threshold


@dataclass(frozen=True)
class Motion(Threshold):
    """Tokens unlike every token of the previous frame within a radius: change that motion does not explain.

    Sees cuts, flashes and new content, also while the camera or an object moves up to ``radius`` tokens a frame. Blind
    to the motion itself, to gradual change, and to content like something near it.

    Source: block matching of video coding, Jain and Jain (IEEE Transactions on Communications 1981), on token cosines;
    radius 0 is the paper's temporal difference.

    Attributes:
        threshold: τ_diff, a cosine similarity in [−1, 1]; the paper's 0.2.
        radius: tokens in each direction, ≥ 0; costs (2 · radius + 1)² passes over the features.
    """

    radius: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("difference radius", self.radius, at_least=0, integer=True)

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32, 1 − the best cosine; 0 without a token in reach in the previous frame."""
        best = graph.norm.new_full((graph.num_nodes,), -math.inf).float()
        reach = range(-self.radius, self.radius + 1)
        for rows, columns in itertools.product(reach, reach):
            pairs = graph.pairs((1, rows, columns))
            best[pairs[1]] = best[pairs[1]].maximum(graph.similarity(pairs))
        return (1 - best).where(best.isfinite(), 0)
