"""Quality of a selection without a language model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

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
        coverage: mean over all visual tokens of the best cosine similarity to a kept one, in [−1, 1]; 1 = nothing is
            lost.
        reconstruction_error: Σ‖x − x̂‖² / Σ‖x‖², x̂ the projection of token x on its most similar kept token; 0 = nothing
            is lost, 1 = all.
        frame_spread: entropy of the kept tokens over the frames, over that of an even spread, in [0, 1].
        frames_covered: share of the frames that keep at least one token.
        event_recall: share of the known event tokens that were kept, averaged over the kinds of events, so that an
            event of few tokens counts as much as one of many; None when no events are known.
        recall_by_event: the same for each kind.
    """

    coverage: float
    reconstruction_error: float
    frame_spread: float
    frames_covered: float
    event_recall: float | None = None
    recall_by_event: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


class Column(NamedTuple):
    """One column of a table that compares selections.

    Attributes:
        title: of the column.
        better: which figure is better, or None where neither is.
        values: one figure per selection, None where it is not known.
    """

    title: str
    better: Literal["higher", "lower"] | None
    values: list[float | None]


def columns(rows: Sequence[Quality]) -> list[Column]:
    """The columns of a table of ``rows``; recall only where events are known, overall and for each kind."""
    table = [
        Column("coverage", "higher", [row.coverage for row in rows]),
        Column("reconstruction error", "lower", [row.reconstruction_error for row in rows]),
        Column("frame spread", None, [row.frame_spread for row in rows]),
        Column("frames covered", None, [row.frames_covered for row in rows]),
    ]
    kinds = dict.fromkeys(kind for row in rows for kind in row.recall_by_event)
    if kinds:
        table.append(Column("event recall", "higher", [row.event_recall for row in rows]))
    if len(kinds) > 1:
        for kind in kinds:
            table.append(Column(kind.replace("_", " "), "higher", [row.recall_by_event.get(kind) for row in rows]))
    return table


def evaluate(tokens: VideoTokens, selection: Selection, events: Mapping[str, Tensor] | Tensor | None = None) -> Quality:
    """All metrics of one selection.

    Args:
        tokens: what was selected from; separators are left out of every metric.
        selection: its selection.
        events: (N,) bool known event tokens, or one such mask for each kind of event.

    Raises:
        StgraphError: the selection is of other tokens, a video keeps no token, or ``events`` does not fit.
    """
    n = len(tokens)
    if len(selection.verdict) != n:
        raise StgraphError(f"the selection is of {len(selection.verdict)} tokens, not of these {n}")
    kinds = {"event": events} if isinstance(events, Tensor) else dict(events or {})
    for kind, mask in kinds.items():
        if mask.shape != (n,) or mask.dtype != torch.bool:
            raise StgraphError(f"events must be bool ({n},), got {mask.dtype} {tuple(mask.shape)} for {kind!r}")
    videos = [_evaluate_video(tokens, selection.mask, kinds, video) for video in range(tokens.num_videos)]
    names = ("coverage", "reconstruction_error", "frame_spread", "frames_covered")
    recall = {
        kind: statistics.fmean(video.recall_by_event[kind] for video in videos if kind in video.recall_by_event)
        for kind in kinds
        if any(kind in video.recall_by_event for video in videos)
    }
    return Quality(
        **{name: statistics.fmean(getattr(video, name) for video in videos) for name in names},
        event_recall=statistics.fmean(recall.values()) if recall else None,
        recall_by_event=recall,
    )


def _evaluate_video(tokens: VideoTokens, mask: Tensor, events: Mapping[str, Tensor], video: int) -> Quality:
    members = ((tokens.batch == video) & ~tokens.separator).nonzero()[:, 0]
    kept = members[mask[members]]
    if not len(kept):
        raise StgraphError(f"video {video} keeps no token, so nothing can be measured")
    best, energy = best_cosine(tokens.features, members, kept)
    best = best.double()
    lost, total = float((energy * (1 - best.clamp(min=0).square())).sum()), float(energy.sum())
    frames = tokens.grids[video].frames
    counts = torch.bincount(tokens.coords[kept, 0], minlength=frames).double()
    share = counts[counts > 0] / counts.sum()
    reachable = min(frames, len(kept))  # an even spread reaches no more frames than there are kept tokens
    known = {kind: members[events[kind][members]] for kind in events}
    return Quality(
        coverage=float(best.mean()),
        reconstruction_error=lost / total if total else 0.0,
        frame_spread=float(-(share * share.log()).sum()) / math.log(reachable) if reachable > 1 else 1.0,
        frames_covered=float((counts > 0).double().mean()),
        recall_by_event={kind: float(mask[rows].double().mean()) for kind, rows in known.items() if len(rows)},
    )


def best_cosine(features: Tensor, members: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity of every token to the most similar kept one, in blocks.

    Args:
        features: (N, d).
        members: (n,) int64 rows to be covered, ascending.
        kept: (k,) int64 rows that are kept, ascending, a subset of ``members``.

    Returns:
        (n,) float32 cosine, 1 for a kept token, and (n,) float64 squared norm of every token.
    """
    target = torch.nn.functional.normalize(features[kept].float(), dim=-1)
    best = torch.empty(len(members), device=features.device)
    energy = torch.empty(len(members), dtype=torch.float64, device=features.device)
    step = max(1, _BLOCK // len(kept))
    for start in range(0, len(members), step):
        rows = slice(start, start + step)
        x = features[members[rows]].float()
        energy[rows] = x.square().sum(-1, dtype=torch.float64)
        best[rows] = (torch.nn.functional.normalize(x, dim=-1) @ target.T).amax(1)
    best[torch.searchsorted(members, kept)] = 1.0
    return best.clamp_(-1, 1), energy
