"""Label propagation: every token takes the label that most of its neighbourhood has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_number
from ..graph import SpatioTemporalGraph
from .base import CommunityDetector, check_seed
from .components import torch_components
from .edge_list import refuse_negative

GROUPS = 4
"""Parts in which the vertices of a sweep are updated. In one go, the two colours of a lattice would swap labels."""


@dataclass(frozen=True)
class LabelPropagation(CommunityDetector):
    """Label propagation (Raghavan, Albert and Kumara, 2007), vectorised, on any device.

    Every vertex starts with a label of its own and takes, in random order, the one with the largest weight among its
    neighbours, until all have it. As in the paper, groups of one label that are not connected are separated at the end.
    Departures: vertices are updated in four random groups per sweep instead of one by one, and a vertex whose
    label is among the largest keeps it instead of drawing again, so that it comes to rest on plateaus of equal tokens.

    Deterministic under the seed; for weights that are multiples of 2⁻²⁰, as cosines are here, on every device. Negative
    weights are refused.

    Attributes:
        max_sweeps: sweeps after which it stops if labels still change.
        seed: of the order and of ties.
    """

    max_sweeps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("max_sweeps", self.max_sweeps, at_least=1, integer=True)
        check_seed(self.seed)

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        refuse_negative(int((graph.edge_weight < 0).sum()), "label_propagation")
        device = graph.token.device
        random = torch.Generator().manual_seed(self.seed)
        positive = graph.edge_weight > 0
        pairs = graph.edge_index[:, positive]
        vertex, neighbour = torch.cat([pairs, pairs.flip(0)], 1)
        weight = graph.edge_weight[positive].double().repeat(2)
        labels = torch.arange(graph.num_nodes, device=device)
        for _ in range(self.max_sweeps):
            before = labels
            turn = torch.randint(GROUPS, (graph.num_nodes,), generator=random).to(device)[vertex]
            order = torch.randperm(graph.num_nodes, generator=random).to(device)
            for group in range(GROUPS):
                mine = turn == group
                labels = _updated(labels, vertex[mine], neighbour[mine], weight[mine], order)
            if torch.equal(labels, before):
                break
        return torch_components(graph.num_nodes, pairs[:, labels[pairs[0]] == labels[pairs[1]]])


def _updated(labels: Tensor, vertex: Tensor, neighbour: Tensor, weight: Tensor, order: Tensor) -> Tensor:
    """Labels after each ``vertex`` took its heaviest one; of equal ones that it has, or the first in ``order``."""
    n = len(labels)
    choice, inverse = torch.unique(vertex * n + labels[neighbour], return_inverse=True)
    voter, label = choice // n, choice % n
    votes = weight.new_zeros(len(choice)).index_add_(0, inverse, weight)
    most = votes.new_zeros(n).scatter_reduce_(0, voter, votes, "amax")
    best = votes == most[voter]
    voter, label = voter[best], label[best]
    # The vertex keeps its own label among the best ones: that label has place −1, all others have larger places.
    place = torch.where(label == labels[voter], -1, order[label])
    first = torch.full_like(labels, n).scatter_reduce_(0, voter, place, "amin")
    chosen = place == first[voter]
    return labels.index_copy(0, voter[chosen], label[chosen])
