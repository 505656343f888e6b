"""DivPrune: the most diverse tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels import snap
from .per_video import Choice, Clip, VideoSelector

BLOCK = 256
"""Tokens among which picks are made before all others hear of them."""


@dataclass(frozen=True, kw_only=True)
class DivPrune(VideoSelector):
    """DivPrune (Alvar et al., CVPR 2025): greedy max-min diversity, farthest-point sampling by 1 − cosine.

    Followed: the token farthest from all picked so far, in 1 − cosine to the nearest of them, is picked until ⌈r·N⌉
    are.

    Departures: starts at the token farthest from the mean direction of the video, where the original starts at the one
    with the farthest nearest neighbour, which takes all N² similarities; distances are compared in steps of about
    1.5e-5, ties to the smaller index. O(N·K·d) time like the original, but in blocks, with O(N·d) memory.
    """

    def choose(self, clip: Clip) -> Choice:
        """The earlier picked, the larger the score."""
        order = farthest_first(clip.unit, clip.budget)
        score = torch.zeros(len(clip), dtype=torch.float64, device=order.device)
        score[order] = torch.arange(len(order), 0, -1, device=order.device).double() / len(order)
        return Choice(score)


def farthest_first(unit: Tensor, count: int) -> Tensor:
    """The first ``count`` tokens of farthest-point sampling by 1 − cosine: (count,) int64, in the order of picking.

    Distances to the nearest pick only ever shrink, so as long as the farthest of a block of tokens is at least as far
    as anything outside was before the block, it is the farthest of all. All tokens then hear of the block's picks in
    one matrix product.

    Args:
        unit: (n, d) float32 unit vectors.
        count: tokens to pick, 0 to n.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=unit.device)
    start = int(snap(1 - unit @ torch.nn.functional.normalize(unit.mean(0), dim=0)).argmax())
    picks = [start]
    distance = snap(1 - unit @ unit[start])
    distance[start] = -torch.inf
    while len(picks) < count:
        order = torch.sort(distance, stable=True, descending=True).indices
        inside = order[:BLOCK].sort().values
        names = inside.tolist()
        outside = (float(distance[order[BLOCK]]), -int(order[BLOCK])) if len(order) > BLOCK else (-torch.inf, 0)
        apart = snap(1 - unit[inside] @ unit[inside].T)
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
        distance = torch.minimum(distance, snap(1 - (unit @ unit[fresh].T).amax(1)))
        distance[fresh] = -torch.inf
    return torch.tensor(picks, dtype=torch.int64, device=unit.device)
