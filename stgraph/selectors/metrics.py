"""Quality of a selection without a language model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import StgraphError
from ..kernels import norms
from ..tokens import VideoTokens
from .per_video import unit_rows
from .selection import Selection

_BLOCK = 1 << 22
"""Similarities held at once, so that no (N, K) matrix is built: 16 MB of float32."""


@dataclass(frozen=True)
class Quality:
    """Quality of a selection, averaged over the videos of a batch.

    Coverage and reconstruction are of the features that a language model is given: those of the kept tokens or, where
    the method merges, what these have become by taking others in (:meth:`Selection.apply`). How long such a feature is
    does not matter, only its direction.

    Attributes:
        coverage: mean over all visual tokens of the best cosine similarity to a given feature, in [−1, 1]; 1 = nothing
            is lost.
        reconstruction_error: Σ‖x − x̂‖² / Σ‖x‖², x̂ the projection of token x on the given feature most similar to it
            (the origin where none is similar); 0 = nothing is lost, 1 = all.
        frame_spread: entropy of the kept tokens over the frames, over that of an even spread, in [0, 1].
        frames_covered: share of the frames that keep at least one token.
        event_recall: share of the known event tokens that were kept, averaged over the kinds of events, so that an
            event of few tokens counts as much as one of many; None when no events are known.
        recall_by_event: the same for each kind.
        coverage_unmerged: coverage as if the kept tokens had taken nothing in; None where the method does not merge.
        reconstruction_error_unmerged: likewise.
    """

    coverage: float
    reconstruction_error: float
    frame_spread: float
    frames_covered: float
    event_recall: float | None = None
    recall_by_event: dict[str, float] = field(default_factory=dict)
    coverage_unmerged: float | None = None
    reconstruction_error_unmerged: float | None = None

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
    """The columns of a table of ``rows``; the unmerged ones only where a row merges, recall only where events are
    known, overall and for each kind.
    """
    table = [
        Column("coverage", "higher", [row.coverage for row in rows]),
        Column("reconstruction error", "lower", [row.reconstruction_error for row in rows]),
    ]
    if any(row.coverage_unmerged is not None for row in rows):
        unmerged = [row.reconstruction_error_unmerged for row in rows]
        table.append(Column("coverage unmerged", "higher", [row.coverage_unmerged for row in rows]))
        table.append(Column("error unmerged", "lower", unmerged))
    table += [
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
    given = selection.apply(tokens.features) if selection.merges else None
    videos = [_evaluate_video(tokens, selection, given, kinds, video) for video in range(tokens.num_videos)]
    names = ["coverage", "reconstruction_error", "frame_spread", "frames_covered"]
    if selection.merges:
        names += ["coverage_unmerged", "reconstruction_error_unmerged"]
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


def _evaluate_video(
    tokens: VideoTokens, selection: Selection, given: Tensor | None, events: Mapping[str, Tensor], video: int
) -> Quality:
    members = ((tokens.batch == video) & ~tokens.separator).nonzero()[:, 0]
    mask = selection.mask
    kept = members[mask[members]]
    if not len(kept):
        raise StgraphError(f"video {video} keeps no token, so nothing can be measured")
    loss = unmerged = _loss(tokens.features, members, kept)
    if given is not None:
        loss = _loss(tokens.features, members, kept, given[torch.searchsorted(selection.indices, kept)])
    frames = tokens.grids[video].frames
    counts = torch.bincount(tokens.coords[kept, 0], minlength=frames).double()
    share = counts[counts > 0] / counts.sum()
    reachable = min(frames, len(kept))  # an even spread reaches no more frames than there are kept tokens
    known = {kind: members[events[kind][members]] for kind in events}
    return Quality(
        coverage=loss.coverage,
        reconstruction_error=loss.reconstruction_error,
        frame_spread=float(-(share * share.log()).sum()) / math.log(reachable) if reachable > 1 else 1.0,
        frames_covered=float((counts > 0).double().mean()),
        recall_by_event={kind: float(mask[rows].double().mean()) for kind, rows in known.items() if len(rows)},
        coverage_unmerged=unmerged.coverage,
        reconstruction_error_unmerged=unmerged.reconstruction_error,
    )


class _Loss(NamedTuple):
    coverage: float
    reconstruction_error: float


def _loss(features: Tensor, members: Tensor, kept: Tensor, given: Tensor | None = None) -> _Loss:
    best, energy = best_cosine(features, members, kept, given)
    best = best.double()
    lost, total = float((energy * (1 - best.clamp(min=0).square())).sum()), float(energy.sum())
    return _Loss(float(best.mean()), lost / total if total else 0.0)


def best_cosine(features: Tensor, members: Tensor, kept: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Similarity of every token to the most similar kept one, in blocks.

    Args:
        features: (N, d).
        members: (n,) int64 rows to be covered, ascending.
        kept: (k,) int64 rows that are kept, ascending, a subset of ``members``, k ≥ 1.
        given: (k, d) what the kept rows have become by taking others in; None where they are as they were.

    Returns:
        (n,) float32 cosine, 1 for a kept token that is as it was, and (n,) float64 squared norm of every token.
    """
    target = unit_rows(features[kept] if given is None else given)
    best = torch.empty(len(members), device=features.device)
    energy = torch.empty(len(members), dtype=torch.float64, device=features.device)
    step = max(1, _BLOCK // len(kept))
    for start in range(0, len(members), step):
        rows = slice(start, start + step)
        x = features[members[rows]]
        length = norms(x, torch.arange(len(x), device=x.device))
        energy[rows] = length.square()
        best[rows] = (unit_rows(x, length) @ target.T).amax(1)
    same = kept if given is None else kept[(given == features[kept]).all(1)]
    best[torch.searchsorted(members, same)] = 1.0
    return best.clamp_(-1, 1), energy
