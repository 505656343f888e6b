"""Quality of a selection without a language model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import StgraphError, check_number
from ..kernels import norms
from ..tokens import VideoTokens
from .parts import unit_rows
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
            Kept tokens count as 1, so it rises with retention by itself: compare it at one retention only.
        coverage_dropped: the same over the dropped tokens alone, which may be compared across retentions; None where
            nothing is dropped.
        reconstruction_error: Σ‖x − x̂‖² / Σ‖x‖², x̂ the projection of token x on the given feature most similar to it
            (the origin where none is similar); 0 = nothing is lost, 1 = all.
        frame_spread: entropy of the kept tokens over the frames, over that of an even spread, in [0, 1].
        frames_covered: share of the frames that keep at least one token.
        event_recall: share of the known event tokens that were kept, averaged over the kinds of events, so that an
            event of few tokens counts as much as one of many; None when no events are known.
        recall_by_event: the same for each kind.
        coverage_unmerged: coverage as if the kept tokens had taken nothing in; None where the method does not merge.
        reconstruction_error_unmerged: the same for the reconstruction error.
        coverage_standard_error: of the coverage, where it was measured on a sample; None where it is exact.
        reconstruction_standard_error: the same for the reconstruction error.
    """

    coverage: float
    reconstruction_error: float
    frame_spread: float
    frames_covered: float
    coverage_dropped: float | None = None
    event_recall: float | None = None
    recall_by_event: dict[str, float] = field(default_factory=dict)
    coverage_unmerged: float | None = None
    reconstruction_error_unmerged: float | None = None
    coverage_standard_error: float | None = None
    reconstruction_standard_error: float | None = None

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


def evaluate(
    tokens: VideoTokens,
    selection: Selection,
    events: Mapping[str, Tensor] | Tensor | None = None,
    *,
    sample: int | None = None,
) -> Quality:
    """All metrics of one selection.

    Coverage and reconstruction look at every pair of a dropped and a kept token, so their cost grows with the square of
    the length of a video. A ``sample`` of the dropped tokens makes it linear, with a standard error that is part of the
    result. The same tokens are looked at first for every selection, so that differences are more certain than that.

    Args:
        tokens: what was selected from; separators are left out of every metric.
        selection: its selection.
        events: (N,) bool known event tokens, or one such mask for each kind of event.
        sample: dropped tokens of each video on which coverage and reconstruction are measured, at least 2; all when not
            given.

    Raises:
        StgraphError: the selection is of other tokens, a video keeps no token, or ``events`` does not fit.
    """
    n = len(tokens)
    if sample is not None:
        check_number("sample", sample, at_least=2, integer=True)
    if len(selection.verdict) != n:
        raise StgraphError(
            f"the selection was made from {len(selection.verdict)} tokens, got {n}; give the tokens it was made from"
        )
    kinds = {"event": events} if isinstance(events, Tensor) else dict(events or {})
    for kind, mask in kinds.items():
        if mask.shape != (n,) or mask.dtype != torch.bool:
            raise StgraphError(f"events must be bool ({n},), got {mask.dtype} {tuple(mask.shape)} for {kind!r}")
    given = selection.apply(tokens.features) if selection.merges else None
    videos = [_evaluate_video(tokens, selection, given, kinds, video, sample) for video in range(tokens.num_videos)]
    names = ["coverage", "reconstruction_error", "frame_spread", "frames_covered"]
    if selection.merges:
        names += ["coverage_unmerged", "reconstruction_error_unmerged"]
    recall = {
        kind: statistics.fmean(video.recall_by_event[kind] for video in videos if kind in video.recall_by_event)
        for kind in kinds
        if any(kind in video.recall_by_event for video in videos)
    }
    errors = {name: [e for video in videos if (e := getattr(video, name)) is not None] for name in _ERRORS}
    dropped = [video.coverage_dropped for video in videos if video.coverage_dropped is not None]
    return Quality(
        **{name: statistics.fmean(getattr(video, name) for video in videos) for name in names},
        **{name: math.hypot(*found) / len(videos) for name, found in errors.items() if found},
        coverage_dropped=statistics.fmean(dropped) if dropped else None,
        event_recall=statistics.fmean(recall.values()) if recall else None,
        recall_by_event=recall,
    )


_ERRORS = ("coverage_standard_error", "reconstruction_standard_error")


def _evaluate_video(
    tokens: VideoTokens,
    selection: Selection,
    given: Tensor | None,
    events: Mapping[str, Tensor],
    video: int,
    sample: int | None,
) -> Quality:
    members = ((tokens.batch == video) & ~tokens.separator).nonzero()[:, 0]
    mask = selection.mask
    kept = members[mask[members]]
    if not len(kept):
        raise StgraphError(f"video {video} keeps no token, so nothing can be measured")
    loss = unmerged = _loss(tokens.features, members, kept, sample)
    if given is not None:
        loss = _loss(tokens.features, members, kept, sample, given[torch.searchsorted(selection.indices, kept)])
    frames = tokens.grids[video].frames
    counts = torch.bincount(tokens.coords[kept, 0], minlength=frames).double()
    share = counts[counts > 0] / counts.sum()
    reachable = min(frames, len(kept))  # an even spread reaches no more frames than there are kept tokens
    known = {kind: members[events[kind][members]] for kind in events}
    return Quality(
        coverage=loss.coverage,
        coverage_dropped=loss.coverage_dropped,
        reconstruction_error=loss.reconstruction_error,
        frame_spread=float(-(share * share.log()).sum()) / math.log(reachable) if reachable > 1 else 1.0,
        frames_covered=float((counts > 0).double().mean()),
        recall_by_event={kind: float(mask[rows].double().mean()) for kind, rows in known.items() if len(rows)},
        coverage_unmerged=unmerged.coverage,
        reconstruction_error_unmerged=unmerged.reconstruction_error,
        coverage_standard_error=loss.coverage_standard_error,
        reconstruction_standard_error=loss.reconstruction_standard_error,
    )


class _Loss(NamedTuple):
    coverage: float
    coverage_dropped: float | None
    reconstruction_error: float
    coverage_standard_error: float | None
    reconstruction_standard_error: float | None


def _loss(features: Tensor, members: Tensor, kept: Tensor, sample: int | None, given: Tensor | None = None) -> _Loss:
    """Coverage and reconstruction error of ``members``; where kept rows stay as they were, nothing is lost."""
    same = kept if given is None else kept[(given == features[kept]).all(1)]
    open_rows = members[~torch.isin(members, same)]
    seen = open_rows if sample is None else _first_of_shuffle(open_rows, len(features), sample)
    energy = norms(features, members).double().square()
    best = best_cosine(features, seen, kept, given).double()
    lost = energy[torch.searchsorted(members, seen)] * (1 - best.clamp(min=0).square())
    total, share = float(energy.sum()), len(open_rows) / len(members)
    uncovered, wasted = 1 - best, lost
    if not len(seen):
        return _Loss(1.0, None, 0.0, None, None)
    dropped = best[~torch.isin(seen, kept)]
    of_dropped = float(dropped.mean()) if len(dropped) else None
    coverage, error = 1 - share * float(uncovered.mean()), len(open_rows) * float(wasted.mean())
    error = error / total if total else 0.0
    if len(seen) == len(open_rows):
        return _Loss(coverage, of_dropped, error, None, None)
    spread = math.sqrt((1 - len(seen) / len(open_rows)) / len(seen))  # of a mean, drawn without replacement
    wasted_error = len(open_rows) * float(wasted.std()) * spread
    coverage_error = share * float(uncovered.std()) * spread
    return _Loss(coverage, of_dropped, error, coverage_error, wasted_error / total if total else 0.0)


def _first_of_shuffle(rows: Tensor, count: int, sample: int) -> Tensor:
    """``sample`` of the ascending ``rows``: those that come first in one fixed shuffle of all ``count`` tokens."""
    if len(rows) <= sample:
        return rows
    place = torch.empty(count, dtype=torch.int64)
    place[torch.randperm(count, generator=torch.Generator().manual_seed(0))] = torch.arange(count)
    return rows[place.to(rows.device)[rows].argsort()[:sample].sort().values]


def best_cosine(features: Tensor, rows: Tensor, kept: Tensor, given: Tensor | None = None) -> Tensor:
    """Similarity of tokens to the most similar kept one, in blocks.

    Args:
        features: (N, d).
        rows: (n,) int64 rows to be covered, ascending.
        kept: (k,) int64 rows that are kept, ascending, k ≥ 1.
        given: (k, d) what the kept rows have become by taking others in; None where they are as they were.

    Returns:
        (n,) float32 cosine, 1 for a kept token that is as it was and for a zero vector where one is kept.
    """
    target = unit_rows(features[kept] if given is None else given)
    best = torch.empty(len(rows), dtype=torch.float32, device=features.device)
    step = max(1, _BLOCK // len(kept))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        best[block] = (unit_rows(features[rows[block]]) @ target.T).amax(1)
    if bool((target == 0).all(1).any()):  # a zero vector is similar to nothing, but is what a kept zero vector is
        best[norms(features, rows) == 0] = 1.0
    same = kept if given is None else kept[(given == features[kept]).all(1)]
    best[torch.isin(rows, same)] = 1.0
    return best.clamp_(-1, 1)
