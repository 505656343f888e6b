"""DivPrune: the most diverse tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .per_video import Choice, Clip, VideoSelector
from .similarity import Directions, fine

BLOCK = 256
"""Number of tokens among which picks are made before the distances of all others are updated."""

ROWS = 512
"""Rows of the matrix of all similarities that are there at a time."""


@dataclass(frozen=True, kw_only=True)
class DivPrune(VideoSelector):
    """DivPrune (Alvar et al., CVPR 2025, arXiv 2503.02175): greedy max-min diversity, by 1 − cosine.

    Followed: the first pick is the token whose nearest other one is farthest; then the token farthest from all picked
    so far, in 1 − cosine to the nearest of them, is picked again and again, ties to the smaller index.
    ``count="published"``: round(r·N).

    Departures: none but the exact count. O(N²·d) time like the original, but in blocks, with O(N·d) memory.
    """

    def choose(self, clip: Clip) -> Choice:
        """The earlier picked, the larger the score."""
        count = clip.budget if self.exact else max(1, round(clip.retention * len(clip)))
        order = farthest_first(Directions(clip.features), count)
        score = torch.zeros(len(clip), dtype=torch.float64, device=order.device)
        score[order] = torch.arange(len(order), 0, -1, device=order.device).double() / len(order)
        return Choice(score, score > 0)


def loneliest(vectors: Directions) -> int:
    """The vector whose nearest other one is farthest, in 1 − cosine."""
    count, unit = len(vectors), vectors.unit
    if count == 1:
        return 0
    likest = torch.full((count,), -torch.inf, dtype=torch.float32, device=unit.device)
    for start in range(0, count, ROWS):
        stop = min(start + ROWS, count)
        rough = vectors.rough(slice(start, stop), vectors, slice(0, stop))  # each pair once
        rough[:, start:].fill_diagonal_(-torch.inf)
        likest[start:stop] = torch.maximum(likest[start:stop], rough.amax(1))
        likest[:stop] = torch.maximum(likest[:stop], rough.amax(0))
    likely = (likest <= likest.amin() + 2 * vectors.error).nonzero()[:, 0]
    alone = torch.empty(len(likely), dtype=torch.float64, device=unit.device)
    for place, rows in zip(torch.arange(len(likely)).split(ROWS), likely.split(ROWS), strict=True):
        apart = fine(1 - unit[rows] @ unit.T)
        apart[torch.arange(len(rows)), rows] = torch.inf
        alone[place] = apart.amin(1)
    return int(likely[alone.argmax()])


def farthest_first(vectors: Directions, count: int) -> Tensor:
    """The first ``count`` tokens of farthest-point sampling by 1 − cosine: (count,) int64, in the order of picking.

    Distances to the nearest pick never grow, so a distance that does not include the latest picks is an upper bound.
    Only the tokens with the largest bounds are updated. As long as the farthest of these is at least as far as every
    other bound, it is the farthest token of all.

    Args:
        vectors: n of them.
        count: tokens to pick, 0 to n.
    """
    unit = vectors.unit
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=unit.device)
    picks = [loneliest(vectors)]
    bound = fine(1 - unit @ unit[picks[0]])
    bound[picks[0]] = -torch.inf
    heard = torch.ones_like(bound, dtype=torch.int64)
    while len(picks) < count:
        _tell(bound, heard, unit, picks, torch.sort(bound, stable=True, descending=True).indices[: 8 * BLOCK])
        order = torch.sort(bound, stable=True, descending=True).indices
        inside = order[:BLOCK].sort().values
        _tell(bound, heard, unit, picks, inside)
        names = inside.tolist()
        outside = (float(bound[order[BLOCK]]), -int(order[BLOCK])) if len(order) > BLOCK else (-torch.inf, 0)
        apart = fine(1 - unit[inside] @ unit[inside].T)
        near = bound[inside]
        while len(picks) < count:
            place = int(near.argmax())
            if (float(near[place]), -names[place]) < outside:
                break
            picks.append(names[place])
            near = torch.minimum(near, apart[place])
            near[place] = -torch.inf
        bound[inside], heard[inside] = near, len(picks)
    return torch.tensor(picks, dtype=torch.int64, device=unit.device)


def _tell(bound: Tensor, heard: Tensor, unit: Tensor, picks: list[int], rows: Tensor) -> None:
    """Update the distances of some rows by the picks that they do not include yet."""
    known = heard[rows]
    for since in known.unique().tolist():
        if since < len(picks):
            own = rows[known == since]
            alike = (unit[own] @ unit[picks[since:]].T).amax(1)
            bound[own] = torch.minimum(bound[own], fine(1 - alike))
    heard[rows] = len(picks)
