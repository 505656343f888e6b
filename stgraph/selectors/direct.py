"""The paper's selection straight from the grid, without a graph in between.

:class:`~stgraph.selectors.simdiff.STSimDiff` builds a graph because its parts can be swapped, and looks at it at many
steps. Where all its parts know whole lattices (:mod:`stgraph.graph.lattice`), none of that is needed: edges stay where
their tokens are, and everything is an operation on the grid. The result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from ..budget import ceil_shares
from ..community.base import CommunityDetector
from ..difference.base import DifferenceDetector
from ..graph.edges import SpatialBuilder, TemporalBuilder
from ..graph.lattice import LatticeEdges, is_known, on_lattice
from ..graph.spatiotemporal import snap_threshold
from ..graph.thresholds import SimilarityThreshold
from ..importance.base import Importance
from ..kernels import direct_kernels, places, take
from ..registry import registry
from ..signals import Signals
from ..tokens import VideoTokens, check_finite
from .base import Clock, Ranking, Selector


class Parts(NamedTuple):
    """What a selection is put together from."""

    spatial: SpatialBuilder
    temporal: TemporalBuilder
    similarity_threshold: SimilarityThreshold
    community: CommunityDetector
    difference: DifferenceDetector
    importance: Importance

    @property
    def known(self) -> bool:
        """Whether all of them know whole lattices."""
        return (
            is_known(self.spatial, self.temporal)
            and all(map(on_lattice, (self.similarity_threshold, self.community, self.difference)))
            and all("signal" in vars(type(one)) or on_lattice(one) for one in self.importance.choices())
        )


def prepare_directly(
    selector: Selector, parts: Parts, tokens: VideoTokens, *, protect_events: bool
) -> Callable[[Signals], Ranking] | None:
    """What :meth:`STSimDiff.prepare` does; on a GPU without waiting for it but once, to see that all is finite.

    None where a part does not know lattices, a grid has holes, or there are no kernels for it.
    """
    if not parts.known:
        return None
    kernels = direct_kernels(tokens.features)
    if kernels is None:
        return None
    vertices = selector.separators == "vertex"
    lattices: list[Tensor] = []
    for video in range(tokens.num_videos):
        lattice = tokens.lattice(video, with_separators=vertices)
        if lattice is None:
            return None
        lattices.append(lattice.detach()[None])
    clock = Clock()
    found = [find(kernels, x, selector.retention, parts, clock) for x in lattices]
    place = selector.visual(tokens)
    index = places(place) if tokens.device.type == "cpu" else None  # counting them would wait for the GPU

    def per_token(values: list[Tensor], fill: float) -> Tensor:
        joined = torch.cat([value.flatten() for value in values])
        if index is not None and len(index) == len(tokens):
            return joined
        filled = joined.new_full((len(tokens),), fill)
        return filled.masked_scatter(place, joined) if index is None else filled.index_copy_(0, index, joined)

    check_finite(per_token([part.norm for part in found], 1), tokens.coords, tokens.batch)
    labels: list[Tensor] = []  # numbered on from the video before
    for part in found:
        labels.append(part.labels + (labels[-1].max() + 1) if labels else part.labels)
    representative = per_token([part.representative for part in found], False)
    event = per_token([part.event for part in found], False)
    clock.lap("difference")

    def rank(signals: Signals) -> Ranking:
        clock = Clock()
        method = parts.importance.resolve(signals)
        name = registry("importance").name_of(method)
        scored = on_lattice(method)
        if scored is None:  # the signal as it stands
            score = signals.require(str(method.signal), f"importance {name!r}")
        else:
            score = per_token([scored(part.edges, part.is_candidate) for part in found], 0)
        clock.lap("importance")
        return Ranking(
            importance=score,
            candidate=representative.to(torch.uint8) + 2 * event.to(torch.uint8),
            protected=event if protect_events else None,
            community=per_token(labels, -1),
            centrality=per_token([part.centrality for part in found], 0),
            difference=per_token([part.difference for part in found], 0),
            seconds=seconds | clock.seconds,
            notes=(f"candidates are trimmed by {name}",),
        )

    # On a GPU, launched stages may still be running, so their times cannot be told apart.
    seconds = clock.seconds if tokens.device.type == "cpu" else {"launches": sum(clock.seconds.values())}
    return rank


class Found(NamedTuple):
    """What is known of B videos before importance is: all (B, T, H, W), norms and labels through all videos."""

    norm: Tensor
    labels: Tensor
    centrality: Tensor
    representative: Tensor
    event: Tensor
    difference: Tensor
    edges: LatticeEdges

    @property
    def is_candidate(self) -> Tensor:
        """(B, T, H, W) bool, representatives and events."""
        return self.representative | self.event


def find(kernels: ModuleType, x: Tensor, retention: float, parts: Parts, clock: Clock | None = None) -> Found:
    """Communities, representatives and events of (B, T, H, W, d) videos; nothing is read back from a GPU."""
    clock = clock or Clock()
    shape, grid = x.shape[:4], x.flatten(0, 1)
    threshold, community, difference = (
        on_lattice(part) for part in (parts.similarity_threshold, parts.community, parts.difference)
    )
    assert threshold is not None
    assert community is not None
    assert difference is not None
    norm, *weights = kernels.lattice(grid, shape[1])
    edges = LatticeEdges(*(weight.view(shape) for weight in weights))
    features, rows = _as_rows(grid)
    clock.lap("graph")
    labels, sizes = community(kernels, edges, snap_threshold(threshold()))
    clock.lap("community")
    centrality = kernels.community_centrality(features, norm.flatten(), rows, labels, sizes)
    shares = ceil_shares(retention, sizes, len(labels))
    representative = kernels.community_ranks(labels, sizes, centrality) < take(shares, labels)
    clock.lap("centrality")
    score, event = difference(edges)
    return Found(
        norm.view(shape),
        labels.view(shape),
        centrality.view(shape),
        representative.view(shape),
        event,
        score,
        edges,
    )


def _as_rows(grid: Tensor) -> tuple[Tensor, Tensor]:
    """A (T, H, W, d) grid as (N, d) rows of features and the (T·H·W,) int64 row of each token, without a copy where
    tokens lie at multiples of a distance, as they do between newline tokens.
    """
    frames, height, width, dim = grid.shape
    *strides, step = grid.stride()
    apart = strides[2]
    if not apart or any(stride % apart for stride in strides):
        return grid.flatten(0, 2), torch.arange(frames * height * width, device=grid.device)
    axes = [torch.arange(n, device=grid.device) * (s // apart) for n, s in zip(grid.shape[:3], strides, strict=True)]
    rows = (axes[0][:, None, None] + axes[1][:, None] + axes[2]).flatten()
    last = sum((n - 1) * (s // apart) for n, s in zip(grid.shape[:3], strides, strict=True))
    return grid.as_strided((last + 1, dim), (apart, step)), rows
