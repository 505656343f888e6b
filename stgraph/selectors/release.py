"""What the authors' release of ST-SimDiff does where the paper says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..budget import ceil_share, ceil_shares
from ..community.partition import Partition
from ..graph.edges import TEMPORAL
from ..graph.spatiotemporal import SpatioTemporalGraph, on_grid
from ..graph.thresholds import ChosenThreshold
from ..kernels import snap


def strict_in_space(similar: SpatioTemporalGraph, thresholds: Sequence[ChosenThreshold]) -> SpatioTemporalGraph:
    """G′ without the spatial edges that lie exactly at the τ_sim of their video; temporal ones stay."""
    values = [on_grid(chosen.threshold) for chosen in thresholds]
    lowest = torch.tensor(values, dtype=torch.float64, device=similar.batch.device)
    above = similar.edge_weight > lowest[similar.batch[similar.edge_index[0]]]
    return similar.take_edges(above | (similar.edge_kind == TEMPORAL))


def representatives(
    similar: SpatioTemporalGraph,
    partition: Partition,
    centrality: Tensor,
    rank: Tensor,
    event: Tensor,
    retention: float,
) -> Tensor:
    """(V,) bool, what the first stage of the release leaves; event tokens stay beside it.

    Communities are taken in the order of their mean similarity, the largest first and of equal ones the one with the
    smaller index. Each gives up its ⌈|c|·(1 − r)⌉ least central members, of which events are spared; the first one that
    would bring what all have given up above 1 − r of the video ends it, and it and all after it stay whole. A vertex
    without an edge is in no community and stays.

    Args:
        similar: G′, V vertices.
        partition: its communities.
        centrality: (V,) float32 S_c. That the release counts a member's similarity to itself changes no order.
        rank: (V,) int64 place of each vertex in its community by centrality.
        event: (V,) bool.
        retention: r.
    """
    labels, sizes = partition.labels, partition.sizes
    joined = torch.zeros_like(event)
    joined[similar.edge_index.flatten()] = True
    stay = -ceil_shares(retention, -sizes)  # ⌊|c|·r⌋
    least = joined & (rank >= stay[labels])
    wanted, given = (torch.bincount(labels[part], minlength=len(sizes)) for part in (least, least & ~event))
    similarity = torch.zeros(len(sizes), dtype=torch.float64, device=labels.device)
    similarity.index_add_(0, labels, centrality.double()).div_(sizes)
    video = torch.zeros_like(sizes).index_copy_(0, labels, similar.batch)
    order = torch.sort(snap(similarity), stable=True, descending=True).indices
    order = order[torch.sort(video[order], stable=True).indices]
    taken = torch.zeros_like(sizes, dtype=torch.bool)
    counts = torch.bincount(similar.batch, minlength=similar.num_videos).tolist()
    parts = order.split(torch.bincount(video, minlength=similar.num_videos).tolist())
    for count, communities in zip(counts, parts, strict=True):
        before = torch.cumsum(given[communities], 0) - given[communities]
        over = before + wanted[communities] > count - ceil_share(retention, count)
        taken[communities[torch.cumsum(over, 0) == 0]] = True
    return ~(least & taken[labels])
