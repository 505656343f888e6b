"""The paper's selection straight from the grid, without a graph in between.

:class:`~stgraph.selectors.simdiff.STSimDiff` builds a graph because its parts can be swapped, and looks at it at many
steps. With the parts of the paper on whole grids none of that is needed: edges stay where their tokens are, and
everything is an operation on the grid. The result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..budget import ceil_shares
from ..community.components import ConnectedComponents
from ..difference.threshold import Threshold
from ..graph.edges import SpatialEdges, TemporalEdges
from ..graph.spatiotemporal import on_grid
from ..graph.thresholds import Fixed
from ..importance.attention import EncoderAttention, LanguageModelAttention
from ..importance.auto import Auto
from ..importance.graph import Novelty
from ..kernels import direct_kernels, places, snap, take
from ..registry import registry
from ..signals import Signals
from ..tokens import VideoTokens, check_finite
from .base import Clock, Ranking

if TYPE_CHECKING:
    from .simdiff import STSimDiff

_PAPER = SpatialEdges(), TemporalEdges(), ConnectedComponents(), "both", "paper"

_IMPORTANCES = Auto(), Novelty(), LanguageModelAttention(), EncoderAttention()


def prepare_directly(selector: STSimDiff, tokens: VideoTokens) -> Callable[[Signals], Ranking] | None:
    """What :meth:`STSimDiff.prepare` does; on a GPU without waiting for it but once, to see that all is finite.

    None where the selector has other parts than the paper's, a grid has holes, or there are no kernels for it.
    """
    threshold, difference = selector.similarity_threshold, selector.difference
    parts = selector.spatial, selector.temporal, selector.community, selector.similarity_edges, selector.preset
    if parts != _PAPER or type(threshold) is not Fixed or type(difference) is not Threshold:
        return None
    if selector.importance not in _IMPORTANCES:
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
    found = [find(kernels, x, selector.retention, threshold.threshold, difference.threshold, clock) for x in lattices]
    place = selector.visual(tokens)
    index = places(place) if tokens.device.type == "cpu" else None  # to count them would be to wait for a GPU

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
        method = selector.importance.resolve(signals)
        name = registry("importance").name_of(method)
        if isinstance(method, Novelty):
            score = per_token([part.novelty() for part in found], 0)
        else:
            score = signals.require(name, f"importance {name!r}")
        clock.lap("importance")
        return Ranking(
            importance=score,
            candidate=representative.to(torch.uint8) + 2 * event.to(torch.uint8),
            protected=event if selector.protect_events else None,
            community=per_token(labels, -1),
            centrality=per_token([part.centrality for part in found], 0),
            difference=per_token([part.difference for part in found], 0),
            seconds=seconds | clock.seconds,
            notes=(f"candidates are trimmed by {name}",),
        )

    # A GPU is still at work when its stages have been launched: they cannot be told apart.
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
    left: Tensor
    above: Tensor
    before: Tensor

    def novelty(self) -> Tensor:
        """(B, T, H, W) 1 − the largest weight of an edge from an earlier candidate, as
        :class:`~stgraph.importance.graph.Novelty`.
        """
        candidate = self.representative | self.event
        closest = torch.full_like(self.left, -1)
        for weight, axis in ((self.left, 3), (self.above, 2), (self.before, 1)):
            size = candidate.shape[axis] - 1
            both = candidate.narrow(axis, 0, size) & candidate.narrow(axis, 1, size)
            place = closest.narrow(axis, 1, size)
            place.copy_(torch.maximum(place, torch.where(both, weight.narrow(axis, 1, size), -1)))
        return snap(1 - closest)


def find(
    kernels: ModuleType,
    x: Tensor,
    retention: float,
    similarity_threshold: float,
    difference_threshold: float,
    clock: Clock | None = None,
) -> Found:
    """Communities, representatives and events of (B, T, H, W, d) videos; nothing is read back from a GPU."""
    clock = clock or Clock()
    videos, frames, height, width, _ = x.shape
    shape = (videos, frames, height, width)
    grid = x.flatten(0, 1)
    least = on_grid(similarity_threshold)
    norm, left, above, before = kernels.lattice(grid, frames)
    features, rows = _as_rows(grid)
    clock.lap("graph")
    labels, sizes = kernels.lattice_components(left, above, before, least, frames)
    clock.lap("community")
    centrality = kernels.community_centrality(features, norm.flatten(), rows, labels, sizes)
    shares = ceil_shares(retention, sizes, len(labels))
    representative = kernels.community_ranks(labels, sizes, centrality) < take(shares, labels)
    clock.lap("centrality")
    past = torch.arange(frames, device=x.device)[:, None, None] > 0
    difference = torch.where(past, 1 - before.view(shape), 0.0)
    return Found(
        norm.view(shape),
        labels.view(shape),
        centrality.view(shape),
        representative.view(shape),
        difference > 1 - on_grid(difference_threshold),
        difference,
        left.view(shape),
        above.view(shape),
        before.view(shape),
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
