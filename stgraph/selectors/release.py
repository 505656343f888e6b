"""What the authors' release of ST-SimDiff does where the paper says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..community.partition import Partition
from ..graph.edges import TEMPORAL
from ..graph.spatiotemporal import SpatioTemporalGraph, snap_threshold
from ..graph.thresholds import ChosenThreshold
from .similarity import fine, unit64

_ROWS = 4096
"""Vertices that are read at a time."""


def strict_in_space(similar: SpatioTemporalGraph, thresholds: Sequence[ChosenThreshold]) -> SpatioTemporalGraph:
    """G′ without the spatial edges that lie exactly at the τ_sim of their video; temporal ones stay."""
    values = [snap_threshold(chosen.threshold) for chosen in thresholds]
    lowest = torch.tensor(values, dtype=torch.float64, device=similar.batch.device)
    above = similar.edge_weight > lowest[similar.batch[similar.edge_index[0]]]
    return similar.take_edges(above | (similar.edge_kind == TEMPORAL))


def dropped_share(retention: float, layers: int = 28) -> float:
    """1 − r, in the doubles of the release: 0.30000000000000004 for r = 0.7."""
    return 1 - (layers * retention) / (layers * 1.0)


def fine_centrality(features: Tensor, token: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """(V,) float64 S_c, 0 in a community of one: the release ranks by differences below those of float32 sums.

    Args:
        features: (N, d).
        token: (V,) int64 token of each vertex.
        labels: (V,) int64 community of each vertex, from 0.
        sizes: (C,) int64 vertices of each community.
    """
    several = (sizes > 1).nonzero()[:, 0]
    number = torch.full_like(sizes, -1)
    number[several] = torch.arange(len(several), device=sizes.device)
    group = number[labels]
    inside = (group >= 0).nonzero()[:, 0]
    total = torch.zeros(len(several), features.shape[1], dtype=torch.float64, device=features.device)
    for rows in inside.split(_ROWS):
        total.index_add_(0, group[rows], unit64(features[token[rows]]))
    centrality = torch.zeros(len(labels), dtype=torch.float64, device=features.device)
    for rows in inside.split(_ROWS):
        unit = unit64(features[token[rows]])
        others = (unit * total[group[rows]]).sum(1) - unit.square().sum(1)
        centrality[rows] = fine(others / (sizes[labels[rows]] - 1))
    return centrality


def fine_ranks(labels: Tensor, centrality: Tensor) -> Tensor:
    """(V,) int64 place of each vertex in its community, the most central first, of equal ones the smaller index."""
    order = torch.sort(centrality, stable=True, descending=True).indices
    order = order[torch.sort(labels[order], stable=True).indices]
    sizes = torch.bincount(labels)
    begins = torch.cumsum(sizes, 0) - sizes
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(order), device=labels.device) - begins[labels[order]]
    return rank


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
    smaller index. Each gives up its ⌈|c|·(1 − r)⌉ least central members, 1 − r as :func:`dropped_share` has it, of
    which events are spared; the first one that would bring what all have given up above 1 − r of the video ends it, and
    it and all after it stay whole. A vertex without an edge is in no community and stays.

    Args:
        similar: G′, V vertices.
        partition: its communities.
        centrality: (V,) float64 S_c. That the release counts a member's similarity to itself changes no order.
        rank: (V,) int64 place of each vertex in its community by centrality.
        event: (V,) bool.
        retention: r.
    """
    labels, sizes = partition.labels, partition.sizes
    joined = torch.zeros_like(event)
    joined[similar.edge_index.flatten()] = True
    goes = dropped_share(retention)
    stay = sizes - torch.ceil(sizes.double() * goes).long()
    least = joined & (rank >= stay[labels])
    wanted, given = (torch.bincount(labels[part], minlength=len(sizes)) for part in (least, least & ~event))
    similarity = torch.zeros(len(sizes), dtype=torch.float64, device=labels.device)
    similarity.index_add_(0, labels, centrality.double()).div_(sizes)
    video = torch.zeros_like(sizes).index_copy_(0, labels, similar.batch)
    order = torch.sort(fine(similarity), stable=True, descending=True).indices
    order = order[torch.sort(video[order], stable=True).indices]
    taken = torch.zeros_like(sizes, dtype=torch.bool)
    counts = torch.bincount(similar.batch, minlength=similar.num_videos).tolist()
    parts = order.split(torch.bincount(video, minlength=similar.num_videos).tolist())
    for count, communities in zip(counts, parts, strict=True):
        before = torch.cumsum(given[communities], 0) - given[communities]
        over = (before + wanted[communities]).double() / count > goes
        taken[communities[torch.cumsum(over, 0) == 0]] = True
    return ~(least & taken[labels])
