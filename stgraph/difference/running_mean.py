"""Running mean: a token against the memory of its position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from ..kernels import snap_cosine
from .threshold import Threshold


@dataclass(frozen=True)
class RunningMean(Threshold):
    """Tokens unlike the exponential running mean of all tokens that were at their position before.

    Sees abrupt change, and gradual change that outruns the memory. A lasting change is part of the mean within a few
    frames. Flicker around a mean is never an event. Blind to drift slower than the memory; for the first frames after a
    change the mean is a mixture, so that they are marked, too, and the return after a short flash is not.

    Source: background subtraction by a running average, Wren et al., Pfinder (IEEE TPAMI 1997), on cosine similarity.

    Attributes:
        threshold: τ_diff, a cosine similarity in [−1, 1]; the paper's 0.2.
        memory: frames, ≥ 1; every frame moves the mean by 1 / memory of the way. 1 remembers the last token only.
    """

    memory: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("difference memory", self.memory, at_least=1)

    def score(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) float32, 1 − cosine to the running mean of unit vectors; 0 for the first token of a position.

        Scratch memory is that of a few frames, in float64: one mean per position, no copy of the features.
        """
        score = graph.norm.new_zeros(graph.num_nodes).float()
        if not graph.num_nodes:
            return score
        columns = int(graph.coords[:, 2].max()) + 1
        place, position = torch.unique(graph.coords[:, 1] * columns + graph.coords[:, 2], return_inverse=True)
        mean = graph.norm.new_zeros((len(place), graph.features.shape[1]))
        seen = torch.zeros_like(place, dtype=torch.bool)
        sizes = torch.unique_consecutive(graph.coords[:, 0], return_counts=True)[1].tolist()
        for vertices in torch.split(torch.arange(graph.num_nodes, device=place.device), sizes):
            here, norm = position[vertices], graph.norm[vertices, None]
            unit = graph.features[graph.token[vertices]].double() / norm.where(norm > 0, 1)
            past, known = mean[here], seen[here]
            cosine = (unit * past).sum(1) / past.norm(dim=1).clamp_(min=torch.finfo(torch.float64).tiny)
            score[vertices] = (1 - snap_cosine(cosine.clamp_(-1, 1))).float() * known
            mean[here] = torch.where(known[:, None], past + (unit - past) / self.memory, unit)
            seen[here] = True
        return score
