"""DivPrune: the most diverse tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .per_video import Choice, Clip, VideoSelector
from .similarity import fine, unit64

BLOCK = 256
"""Tokens among which picks are made before all others hear of them."""

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
        order = farthest_first(unit64(clip.features), count)
        score = torch.zeros(len(clip), dtype=torch.float64, device=order.device)
        score[order] = torch.arange(len(order), 0, -1, device=order.device).double() / len(order)
        return Choice(score, score > 0)


def loneliest(unit: Tensor) -> int:
    """The vector (n, d) whose nearest other one is farthest, in 1 − cosine."""
    if len(unit) == 1:
        return 0
    nearest = torch.full((len(unit),), torch.inf, dtype=torch.float64, device=unit.device)
    for start in range(0, len(unit), ROWS):
        stop = min(start + ROWS, len(unit))
        apart = fine(1 - unit[start:stop] @ unit[:stop].T)  # each pair once
        apart[:, start:].fill_diagonal_(torch.inf)
        nearest[start:stop] = torch.minimum(nearest[start:stop], apart.amin(1))
        nearest[:stop] = torch.minimum(nearest[:stop], apart.amin(0))
    return int(nearest.argmax())


def farthest_first(unit: Tensor, count: int) -> Tensor:
    """The first ``count`` tokens of farthest-point sampling by 1 − cosine: (count,) int64, in the order of picking.

    Distances to the nearest pick only ever shrink, so as long as the farthest of a block of tokens is at least as far
    as anything outside was before the block, it is the farthest of all. All tokens then hear of the block's picks in
    one matrix product.

    Args:
        unit: (n, d) float64 unit vectors.
        count: tokens to pick, 0 to n.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=unit.device)
    start = loneliest(unit)
    picks = [start]
    distance = fine(1 - unit @ unit[start])
    distance[start] = -torch.inf
    while len(picks) < count:
        order = torch.sort(distance, stable=True, descending=True).indices
        inside = order[:BLOCK].sort().values
        names = inside.tolist()
        outside = (float(distance[order[BLOCK]]), -int(order[BLOCK])) if len(order) > BLOCK else (-torch.inf, 0)
        apart = fine(1 - unit[inside] @ unit[inside].T)
        near = distance[inside]
        heard = len(picks)
        while len(picks) < count:
            place = int(near.argmax())
            if (float(near[place]), -names[place]) < outside:
                break
            picks.append(names[place])
            near = torch.minimum(near, apart[place])
            near[place] = -torch.inf
        fresh = picks[heard:]
        distance = torch.minimum(distance, fine(1 - (unit @ unit[fresh].T).amax(1)))
        distance[fresh] = -torch.inf
    return torch.tensor(picks, dtype=torch.int64, device=unit.device)
