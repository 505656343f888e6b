"""The paper's selection without a word from the device: for GPUs, where waiting costs more than the work.

:class:`~stgraph.selectors.simdiff.STSimDiff` reads counts back from the device at many steps, because its parts can be
swapped. With the parts of the paper none of that is needed: ⌈r·N⌉ is known before anything is computed. So the launches
run ahead, and can be captured in a CUDA graph.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from ..budget import ceil_share
from ..difference.threshold import Threshold
from ..errors import StgraphError, check_number
from ..graph import on_grid
from ..importance.attention import EncoderAttention, LanguageModelAttention
from ..importance.auto import Auto
from ..importance.graph import Novelty
from ..kernels import gpu, snap
from ..registry import registry
from ..signals import Signals
from ..thresholds import Fixed
from ..tokens import FEATURE_DTYPES, VideoTokens, check_finite
from .base import Ranking
from .selection import Verdict
from .simdiff import STSimDiff, rank_in_community


class DeviceSelection(NamedTuple):
    """What was kept of B videos of n tokens each, all on the device of the features.

    Attributes:
        indices: (B, ⌈r·n⌉) int64 kept tokens of each video, ascending from 0.
        verdict: (B, n) uint8 :class:`~stgraph.Verdict` codes.
        candidate: (B, n) uint8 bits before trimming: 1 = representative, 2 = event.
        community: (B, n) int64, numbered through all videos by first appearance.
        centrality: (B, n) float32.
        difference: (B, n) float32.
        importance: (B, n) float32.
        finite: bool, a single one; False where a feature is NaN or Inf, and then nothing else means anything.
    """

    indices: Tensor
    verdict: Tensor
    candidate: Tensor
    community: Tensor
    centrality: Tensor
    difference: Tensor
    importance: Tensor
    finite: Tensor


@torch.no_grad()
def select_on_device(
    x: Tensor,
    retention: float = 0.3,
    *,
    similarity_threshold: float = 0.8,
    difference_threshold: float = 0.2,
    attention: Tensor | None = None,
) -> DeviceSelection:
    """What ``STSimDiff(retention=..., similarity_threshold=...)`` selects of dense grids, with the paper's parts.

    Nothing is read back from the device. To capture it in a CUDA graph, call it once before, so that its programs are
    compiled, and then inside ``torch.cuda.graph`` with ``x`` in its final place.

    Args:
        x: (T, H, W, d), or (B, T, H, W, d) videos of one size; float32, float16 or bfloat16 on a GPU, d side by side.
        retention: share of the tokens of each video that stay, in (0, 1].
        similarity_threshold: τ_sim in [−1, 1].
        difference_threshold: τ_diff in [−1, 1].
        attention: (B, n) or (n,), what candidates are trimmed by; None trims by novelty, as ``importance=auto`` does.

    Raises:
        StgraphError: shapes, dtypes or numbers that do not fit. Features that are not finite are no error, see
            ``finite``.
    """
    check_number("retention", retention, above=0, at_most=1)
    check_number("similarity_threshold", similarity_threshold, at_least=-1, at_most=1)
    check_number("difference_threshold", difference_threshold, at_least=-1, at_most=1)
    if x.ndim not in (4, 5) or x.dtype not in FEATURE_DTYPES or 0 in x.shape:
        raise StgraphError(
            "x must be (T, H, W, d) or (B, T, H, W, d) with no size of 0, in float32, float16 or bfloat16; got "
            f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}"
        )
    x = x.detach() if x.ndim == 5 else x.detach()[None]
    videos, count = x.shape[0], math.prod(x.shape[1:4])
    if attention is not None and attention.numel() != videos * count:
        raise StgraphError(
            f"attention must hold one number for each of {videos} × {count} tokens, got {tuple(attention.shape)}"
        )
    found = _find(x, retention, similarity_threshold, difference_threshold)
    representative, event = found.representative.flatten(1), found.event.flatten(1)
    candidate = representative | event
    importance = (found.novelty() if attention is None else attention).float().reshape(videos, count)

    # The budget takes candidates before others, each by importance, ties to the smaller index.
    order = torch.sort(_ascending(importance) + (candidate.long() << 33), dim=1, stable=True, descending=True)
    kept = order.indices[:, : ceil_share(retention, count)]
    keep = torch.zeros_like(candidate).scatter_(1, kept, True)
    role = representative.to(torch.uint8) + 2 * event.to(torch.uint8)
    verdict = torch.where(
        keep,
        torch.where(role > 0, role, int(Verdict.FILLED)),
        torch.where(role > 0, int(Verdict.TRIMMED), int(Verdict.DROPPED)),
    )
    return DeviceSelection(
        indices=torch.sort(kept, 1).values,
        verdict=verdict.to(torch.uint8),
        candidate=role,
        community=found.labels.flatten(1),
        centrality=found.centrality.flatten(1),
        difference=found.difference.flatten(1),
        importance=importance,
        finite=found.norm.isfinite().all(),
    )


def prepare_on_device(selector: STSimDiff, tokens: VideoTokens) -> Callable[[Signals], Ranking] | None:
    """What :meth:`STSimDiff.prepare` does, without waiting for the device but once, to see that all is finite.

    None where the selector has other parts than the paper's, or a grid has holes.
    """
    threshold, difference = selector.similarity_threshold, selector.difference
    paper = STSimDiff(
        retention=selector.retention,
        separators=selector.separators,
        similarity_threshold=threshold,
        difference=difference,
        importance=selector.importance,
        protect_events=selector.protect_events,
        budget=selector.budget,
    )
    if selector != paper or type(threshold) is not Fixed or type(difference) is not Threshold:
        return None
    if selector.importance not in (Auto(), Novelty(), LanguageModelAttention(), EncoderAttention()):
        return None
    vertices = selector.separators == "vertex"
    lattices: list[Tensor] = []
    for video in range(tokens.num_videos):
        lattice = tokens.lattice(video, with_separators=vertices)
        if lattice is None:
            return None
        lattices.append(lattice.detach()[None])
    start = time.perf_counter()
    parts = [_find(x, selector.retention, threshold.threshold, difference.threshold) for x in lattices]
    place = selector.visual(tokens)

    def per_token(values: list[Tensor], fill: float) -> Tensor:
        joined = torch.cat([value.flatten() for value in values])
        return joined.new_full((len(tokens),), fill).masked_scatter(place, joined)

    norm = per_token([part.norm for part in parts], 1)
    check_finite(norm, tokens.coords, tokens.batch)
    labels: list[Tensor] = []  # numbered on from the video before
    for part in parts:
        labels.append(part.labels + (labels[-1].max() + 1) if labels else part.labels)
    representative = per_token([part.representative for part in parts], False)
    event = per_token([part.event for part in parts], False)
    seconds = {"ranking": time.perf_counter() - start}

    def rank(signals: Signals) -> Ranking:
        method = selector.importance.resolve(signals)
        name = registry("importance").name_of(method)
        if isinstance(method, Novelty):
            score = per_token([part.novelty() for part in parts], 0)
        else:
            score = signals.require(name, f"importance {name!r}")
        return Ranking(
            importance=score,
            candidate=representative.to(torch.uint8) + 2 * event.to(torch.uint8),
            protected=event if selector.protect_events else None,
            community=per_token(labels, -1),
            centrality=per_token([part.centrality for part in parts], 0),
            difference=per_token([part.difference for part in parts], 0),
            seconds=seconds,
            notes=(f"candidates are trimmed by {name}",),
        )

    return rank


class _Found(NamedTuple):
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


def _find(x: Tensor, retention: float, similarity_threshold: float, difference_threshold: float) -> _Found:
    """Communities, representatives and events of (B, T, H, W, d) videos."""
    videos, frames, height, width, _ = x.shape
    shape = (videos, frames, height, width)
    grid = x.flatten(0, 1)
    norm, left, above, before = gpu.lattice(grid, frames)
    features, rows = _as_rows(grid)
    labels, sizes = gpu.components(left, above, before, on_grid(similarity_threshold), frames)
    centrality = gpu.community_centrality(features, norm.flatten(), rows, labels, sizes)
    shares = _ceil_shares(retention, sizes, len(labels))
    representative = rank_in_community(labels, sizes, centrality) < shares[labels]
    past = torch.arange(frames, device=x.device)[:, None, None] > 0
    difference = torch.where(past, 1 - before.view(shape), 0.0)
    return _Found(
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


def _ascending(x: Tensor) -> Tensor:
    """int64 that order as the float32 numbers ``x`` do, all of them below 2³²."""
    bits = (x + 0.0).view(torch.int32)  # −0 + 0 is 0
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()


def _ceil_shares(share: float, counts: Tensor, most: int) -> Tensor:
    """⌈share · count⌉ of counts up to ``most``, in whole numbers."""
    exact = Fraction(repr(float(share)))
    if exact.numerator * most + exact.denominator < 2**63:
        return torch.div(counts * exact.numerator + exact.denominator - 1, exact.denominator, rounding_mode="floor")
    # So many digits that whole numbers would overflow: float64 is exact to one place beside ⌈share · count⌉.
    table = torch.tensor([math.ceil(exact * n) for n in range(most + 1)])
    return table.to(counts.device, non_blocking=True)[counts]
