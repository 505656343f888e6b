"""Quality of a selection without a language model."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from .errors import StgraphError
from .selectors.selection import Selection
from .tokens import VideoTokens

_BLOCK = 1 << 22
"""Similarities held at once, so that no (N, K) matrix is built: 16 MB of float32."""


@dataclass(frozen=True)
class Quality:
    """Quality of a selection, averaged over the videos of a batch.

    Attributes:
        coverage: mean over all visual tokens of the best cosine similarity to a kept one, in [−1, 1]; 1 = nothing is lost.
        reconstruction_error: Σ‖x − x̂‖² / Σ‖x‖², every token x replaced by its most similar kept token x̂; 0 = nothing lost.
        event_recall: share of the known event tokens that were kept, or None when none are known.
        frame_spread: entropy of the kept tokens over the frames, over that of an even spread, in [0, 1].
        frames_covered: share of the frames that keep at least one token.
    """

    coverage: float
    reconstruction_error: float
    event_recall: float | None
    frame_spread: float
    frames_covered: float

    def as_dict(self) -> dict[str, float | None]:
        """The figures by name."""
        return asdict(self)


def evaluate(tokens: VideoTokens, selection: Selection, events: Tensor | None = None) -> Quality:
    """All metrics of one selection.

    Args:
        tokens: what was selected from; separators are left out of every metric.
        selection: its selection.
        events: (N,) bool, the known event tokens.

    Raises:
        StgraphError: the selection is of other tokens, a video keeps no token, or ``events`` does not fit.
    """
    if len(selection.verdict) != len(tokens):
        raise StgraphError(f"the selection is of {len(selection.verdict)} tokens, not of these {len(tokens)}")
    if events is not None and (events.shape != (len(tokens),) or events.dtype != torch.bool):
        raise StgraphError(f"events must be bool ({len(tokens)},), got {events.dtype} {tuple(events.shape)}")
    rows = [_evaluate_video(tokens, selection.mask, events, video) for video in range(tokens.num_videos)]
    mean = torch.tensor([[coverage, error, spread, covered] for coverage, error, _, spread, covered in rows]).double().mean(0)
    recalls = [recall for _, _, recall, _, _ in rows if recall is not None]
    coverage, error, spread, covered = mean.tolist()
    return Quality(coverage, error, sum(recalls) / len(recalls) if recalls else None, spread, covered)


def _evaluate_video(
    tokens: VideoTokens, mask: Tensor, events: Tensor | None, video: int
) -> tuple[float, float, float | None, float, float]:
    members = ((tokens.batch == video) & ~tokens.separator).nonzero()[:, 0]
    kept = members[mask[members]]
    if not len(kept):
        raise StgraphError(f"video {video} keeps no token, so nothing can be measured")
    best, nearest = nearest_kept(tokens.features, members, kept)
    error = total = 0.0
    for rows, near in zip(members.split(1024), nearest.split(1024), strict=True):
        x = tokens.features[rows].float()
        error += float((x - tokens.features[near].float()).square().sum(dtype=torch.float64))
        total += float(x.square().sum(dtype=torch.float64))
    frames = tokens.grids[video].frames
    counts = torch.bincount(tokens.coords[kept, 0], minlength=frames).double()
    share = counts[counts > 0] / counts.sum()
    # Not more frames can be reached than there are kept tokens.
    reachable = min(frames, len(kept))
    entropy = float(-(share * share.log()).sum()) / float(torch.tensor(float(reachable)).log()) if reachable > 1 else 1.0
    known = None if events is None else members[events[members]]
    recall = float(mask[known].double().mean()) if known is not None and len(known) else None
    return float(best.double().mean()), error / total if total else 0.0, recall, entropy, float((counts > 0).double().mean())


def nearest_kept(features: Tensor, members: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The most similar kept token of every token, in blocks.

    Args:
        features: (N, d).
        members: (n,) int64 rows to be covered.
        kept: (k,) int64 rows that are kept, a subset of ``members``.

    Returns:
        (n,) float32 cosine and (n,) int64 row of the most similar kept token; a kept token covers itself with 1.
    """
    target = torch.nn.functional.normalize(features[kept].float(), dim=-1)
    best = torch.empty(len(members), device=features.device)
    nearest = torch.empty_like(members)
    step = max(1, _BLOCK // len(kept))
    for start in range(0, len(members), step):
        rows = slice(start, start + step)
        unit = torch.nn.functional.normalize(features[members[rows]].float(), dim=-1)
        best[rows], index = (unit @ target.T).max(1)
        nearest[rows] = kept[index]
    itself = torch.searchsorted(members, kept)
    best[itself] = 1.0
    nearest[itself] = kept
    return best.clamp_(-1, 1), nearest
