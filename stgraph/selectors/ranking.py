"""Ranking: what a method says of the tokens, before the budget decides which of them are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from ..errors import StgraphError
from ..tokens import VideoTokens
from .selection import Blend, blend_of


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a method says of the N tokens; the base class turns it into exactly ⌈r·N⌉ kept ones per video.

    Attributes:
        importance: (N,) float, larger is kept first, ties to the smaller index; cosines come as ``kernels.snap`` of
            them.
        candidate: (N,) uint8 bits, 1 = representative, 2 = event; all candidates come before all others. None when the
            method has no candidates and ranks by importance alone.
        protected: (N,) bool, kept before all other candidates, or None.
        community: (N,) int64, −1 where none; or None.
        centrality: (N,) float32, or None.
        difference: (N,) float32, or None.
        seconds: time of each stage.
        notes: sentences for the user.
        merge_target: (N,) int64, the kept token that a dropped one is merged into, −1 for all others; None where the
            method does not merge.
        merge_weight: (N,) float32, the factor of each token in that sum, see :class:`Selection`.
        blend: the sums themselves, where a token goes into several kept ones or a kept one into others, see
            :class:`Selection`; None where the two above say all.
        budget: visual tokens to keep of each video; None for ⌈r·N⌉.
    """

    importance: Tensor
    candidate: Tensor | None = None
    protected: Tensor | None = None
    community: Tensor | None = None
    centrality: Tensor | None = None
    difference: Tensor | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    merge_target: Tensor | None = None
    merge_weight: Tensor | None = None
    blend: Blend | None = None
    budget: Sequence[int] | None = None

    @classmethod
    def cat(cls, parts: Sequence[Ranking]) -> Ranking:
        """The rankings of several videos as that of one batch: communities and merge targets are numbered on."""
        sizes = [len(part.importance) for part in parts]
        first = [sum(sizes[:video]) for video in range(len(parts))]
        seconds: dict[str, float] = {}
        for part in parts:
            for stage, value in part.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + value

        def joined(name: str, fill: float, offsets: Sequence[int] | None = None) -> Tensor | None:
            values = [cast("Tensor | None", getattr(part, name)) for part in parts]
            some = next((value for value in values if value is not None), None)
            if some is None:
                return None
            whole = [
                some.new_full((size,), fill) if value is None else value
                for value, size in zip(values, sizes, strict=True)
            ]
            if offsets is not None:
                whole = [torch.where(x >= 0, x + offset, x) for x, offset in zip(whole, offsets, strict=True)]
            return torch.cat(whole)

        numbers = [0 if part.community is None else int(part.community.max()) + 1 for part in parts]
        alike = len({part.notes for part in parts}) == 1
        return cls(
            importance=torch.cat([part.importance for part in parts]),
            candidate=joined("candidate", 0),
            protected=joined("protected", 0),
            community=joined("community", -1, [sum(numbers[:video]) for video in range(len(parts))]),
            centrality=joined("centrality", 0),
            difference=joined("difference", 0),
            seconds=seconds,
            notes=parts[0].notes
            if alike
            else tuple(f"video {video}: {note}" for video, part in enumerate(parts) for note in part.notes),
            merge_target=joined("merge_target", -1, first),
            merge_weight=joined("merge_weight", 1),
            blend=_blends(parts, first),
            budget=[n for part in parts for n in part.budget or ()] or None,
        )


def _blends(parts: Sequence[Ranking], first: Sequence[int]) -> Blend | None:
    """The sums of several videos as those of one batch; None where targets and weights say all."""
    if all(part.blend is None for part in parts):
        return None
    blends = []
    for part, offset in zip(parts, first, strict=True):
        blend = part.blend
        if blend is None and part.merge_target is not None and part.merge_weight is not None:
            keep = part.protected if part.protected is not None else part.merge_weight > 0
            blend = blend_of(keep & (part.merge_target < 0), part.merge_target, part.merge_weight)
        if blend is not None:
            blends.append(Blend(blend.into + offset, blend.source + offset, blend.weight))
    return Blend.cat(blends)


def check_budget(ranking: Ranking, tokens: VideoTokens, visual: Tensor, method: str) -> None:
    """Raise :class:`StgraphError` unless a method that sets its own budget keeps 0 to all tokens of each video."""
    if ranking.budget is None:
        return
    counts = torch.bincount(tokens.batch[visual], minlength=tokens.num_videos).tolist()
    budget = list(ranking.budget)
    if len(budget) != len(counts) or not all(
        isinstance(kept, int) and 0 <= kept <= count for kept, count in zip(budget, counts, strict=True)
    ):
        raise StgraphError(
            f"selector {method} must keep a whole number of tokens of each video, at most {counts}, got {budget}"
        )
