"""Composed: a detector inside each community of another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..graph import SpatioTemporalGraph
from ..registry import build_groups, group_field
from .base import CommunityDetector
from .partition import Partition


@dataclass(frozen=True)
class Composed(CommunityDetector):
    """``second`` inside each community of ``first``, as if that community were a video of its own.

    So the second detector's scale is that of the community: Leiden inside components, for instance, escapes the
    resolution limit that modularity has on the graph of a whole video. Deterministic if both are.

    Attributes:
        first: finds the communities.
        second: splits each of them.
    """

    first: CommunityDetector = group_field("community", "components")
    second: CommunityDetector = group_field("community", "leiden")

    def __post_init__(self) -> None:
        build_groups(self)

    def detect(self, graph: SpatioTemporalGraph) -> Tensor:
        """(V,) community of each vertex."""
        outer = self.first(graph)
        labels = outer.labels.clone()
        used = outer.num_communities
        for members, inside in _subgraphs(graph, outer):
            inner = self.second(inside)
            labels[members] = used + inner.labels
            used += inner.num_communities
        return labels


def _subgraphs(graph: SpatioTemporalGraph, partition: Partition) -> Iterator[tuple[Tensor, SpatioTemporalGraph]]:
    """Vertices and induced graph of every community that has an edge, each edge looked at once."""
    members = torch.sort(partition.labels, stable=True).indices
    starts = torch.cumsum(partition.sizes, 0) - partition.sizes
    place = torch.empty_like(members)
    place[members] = torch.arange(len(members), device=members.device) - starts[partition.labels[members]]
    owner = partition.labels[graph.edge_index]
    inside = (owner[0] == owner[1]).nonzero()[:, 0]
    inside = inside[torch.sort(owner[0, inside], stable=True).indices]
    counts = torch.bincount(owner[0, inside], minlength=partition.num_communities)
    for rows, edges in zip(
        torch.split(members, partition.sizes.tolist()), torch.split(inside, counts.tolist()), strict=True
    ):
        if len(edges):
            yield (
                rows,
                replace(
                    graph,
                    edge_index=place[graph.edge_index[:, edges]],
                    edge_weight=graph.edge_weight[edges],
                    edge_kind=graph.edge_kind[edges],
                    coords=graph.coords[rows],
                    batch=graph.batch[rows],
                    token=graph.token[rows],
                    norm=graph.norm[rows],
                ),
            )
