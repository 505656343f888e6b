"""The paper's selection without a word from the device: for GPUs, where waiting costs more than the work.

⌈r·N⌉ is known before anything is computed, so the launches run ahead, and can be captured in a CUDA graph.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..budget import ceil_share
from ..community.components import ConnectedComponents
from ..difference.threshold import Threshold
from ..errors import StgraphError, check_number
from ..graph.edges import SpatialEdges, TemporalEdges
from ..graph.thresholds import Fixed
from ..importance.graph import Novelty
from ..kernels import gpu
from ..tokens import FEATURE_DTYPES
from .direct import Parts, find
from .selection import verdict_of


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
    novelty = Novelty()
    parts = Parts(
        SpatialEdges(),
        TemporalEdges(),
        Fixed(similarity_threshold),
        ConnectedComponents(),
        Threshold(difference_threshold),
        novelty,
    )
    found = find(gpu, x, retention, parts)
    representative, event = found.representative.flatten(1), found.event.flatten(1)
    candidate = representative | event
    score = novelty.on_lattice()(found.edges, found.is_candidate) if attention is None else attention
    importance = score.float().reshape(videos, count)

    # The budget takes candidates before others, each by importance, ties to the smaller index.
    order = torch.sort(_ascending(importance) + (candidate.long() << 33), dim=1, stable=True, descending=True)
    kept = order.indices[:, : ceil_share(retention, count)]
    keep = torch.zeros_like(candidate).scatter_(1, kept, True)
    role = representative.to(torch.uint8) + 2 * event.to(torch.uint8)
    return DeviceSelection(
        indices=torch.sort(kept, 1).values,
        verdict=verdict_of(role, keep),
        candidate=role,
        community=found.labels.flatten(1),
        centrality=found.centrality.flatten(1),
        difference=found.difference.flatten(1),
        importance=importance,
        finite=found.norm.isfinite().all(),
    )


def _ascending(x: Tensor) -> Tensor:
    """int64 that order as the float32 numbers ``x`` do, all of them below 2³²."""
    bits = (x + 0.0).view(torch.int32)  # −0 + 0 is 0
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
