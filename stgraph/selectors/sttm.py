"""STTM: a quadtree of each frame, and nodes that cover each other merged along time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..errors import check_number
from .parts import bisect
from .per_video import Choice, Clip, VideoSelector, predecessors
from .selection import Blend
from .similarity import fine, pair_cosines, unit64

STEPS = 10
"""Thresholds that are tried for an exact count."""

BLOCK = 1024
"""Pairs of nodes that are compared at a time."""


class Level(NamedTuple):
    """One level of the quadtree, of all frames.

    Attributes:
        mean: (T, h, w, d) float32, averages of averages.
        node: (H, W) int64 the node of each position.
        weight: (T, H, W) float64 the part of each position in its node.
        likeness: (T, h, w) float64 the least cosine of a node to the four in its children's places; None at the finest.
    """

    mean: Tensor
    node: Tensor
    weight: Tensor
    likeness: Tensor | None


class Nodes(NamedTuple):
    """The nodes that stay, in order of frame and of their first position.

    Attributes:
        frame: (m,) int64.
        mean: (m, d) float32.
        token: (n,) int64 the node of each token of the clip.
        weight: (n,) float64 the part of each token in its node.
    """

    frame: Tensor
    mean: Tensor
    token: Tensor
    weight: Tensor


@dataclass(frozen=True, kw_only=True)
class STTM(VideoSelector):
    """STTM (Hyun et al., ICCV 2025, arXiv 2507.07990): multi-granular spatial and then temporal merging.

    Followed: each frame is a quadtree of 2 × 2 averages; where a side is odd its first row or column is on its own.
    From level ``root`` down, a node stays if its cosine to each of its four children reaches a threshold; in the place
    of a child that an odd level lacks stands the first node of the level below. Nodes of adjacent frames of which one
    covers the other are a pair if their cosine reaches another threshold. Pairs are joined by their smallest number,
    round by round, until numbers stand for themselves, which is before all chains are joined; what has one number
    becomes the plain mean of its nodes. The thresholds decide how many stay: ``count="published"``.

    Departures: the method runs on the tokens that enter the LLM, where theirs takes the hidden states of layer 2. Rows
    keep the position of their node, where theirs numbers them anew from 0. Positions that hold no token count in no
    average. ``count="exact"``: the spatial threshold is bisected in 10 steps, and where even single tokens merge into
    too few, the temporal one; then the nodes of the fewest tokens go, or the tokens least like their node stay beside
    it.

    Attributes:
        spatial_threshold: for ``count="published"``, in [−1, 1].
        temporal_threshold: in [−1, 1]; 0 and below: nothing is merged along time.
        root: level at which the tree begins, 0 for the coarsest.
    """

    spatial_threshold: float = 0.8
    temporal_threshold: float = 0.6
    root: int = 1

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("spatial_threshold", self.spatial_threshold, at_least=-1, at_most=1)
        check_number("temporal_threshold", self.temporal_threshold, at_least=-1, at_most=1)
        check_number("root", self.root, at_least=0, integer=True)

    def choose(self, clip: Clip) -> Choice:
        """Tokens of each row; for the others 1 − cosine to it, less 2."""
        levels, before = self._levels(clip), predecessors(clip, adjacent=True)[0]
        spatial, temporal = self.spatial_threshold, self.temporal_threshold
        if self.exact:

            def count(spatial: float, temporal: float) -> int:
                return len(_groups(_nodes(clip, levels, spatial), before, temporal).unique())

            spatial = bisect(lambda s: count(s, temporal), -1.01, 1.01, clip.budget, steps=STEPS)
            if spatial > 1 and temporal > 0:
                temporal = bisect(lambda t: count(spatial, t), temporal, 1.01, clip.budget, steps=STEPS)
        nodes = _nodes(clip, levels, spatial)
        group = _groups(nodes, before, temporal)
        tokens = torch.arange(len(clip), device=group.device)
        place = torch.full_like(nodes.frame, len(clip)).scatter_reduce(0, nodes.token, tokens, "amin")
        head = place[group][nodes.token]
        weight = nodes.weight / torch.bincount(group)[group][nodes.token]
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=group.device)
        chosen[head] = True
        unlike = torch.cat([-1 - pair_cosines(clip.features[f], clip.features[head[f]]) for f in clip.frames])
        size = torch.bincount(head, minlength=len(clip)).double()
        return Choice(
            torch.where(chosen, size, unlike), chosen, blend=Blend.cat([Blend(head, tokens, weight.to(torch.float32))])
        )

    def _levels(self, clip: Clip) -> list[Level]:
        """From where the tree begins to single positions."""
        size = (clip.coords.amax(0) + 1).tolist()
        place = clip.coords.T.unbind()
        grid = torch.zeros(*size, clip.features.shape[1], dtype=torch.float32, device=clip.coords.device)
        grid[place] = clip.features.to(torch.float32)
        there = torch.zeros(*size, dtype=torch.float64, device=grid.device)
        there[place] = 1
        node = torch.arange(size[1] * size[2], device=grid.device).view(size[1:])
        levels, number = [Level(grid, node, there, None)], there
        while min(levels[0].mean.shape[1:3]) > 2:
            below = levels[0]
            parent = _parents(below.mean.shape[1], below.mean.shape[2], grid.device)
            height, width = -(-below.mean.shape[1] // 2), -(-below.mean.shape[2] // 2)
            filled = (number > 0).double().flatten(1)
            count = torch.zeros(size[0], height * width, dtype=torch.float64, device=grid.device)
            count.index_add_(1, parent.flatten(), filled)
            mean = torch.zeros(size[0], height * width, grid.shape[-1], dtype=torch.float32, device=grid.device)
            mean.index_add_(1, parent.flatten(), below.mean.flatten(1, 2))
            mean /= count.clamp(min=1).to(torch.float32)[..., None]
            likeness = _likeness(mean, below.mean, parent, filled)
            node = parent.flatten()[below.node]
            weight = below.weight / count.clamp(min=1)[:, node.flatten()].view_as(below.weight)
            number = count.view(size[0], height, width)
            levels.insert(0, Level(mean.view(size[0], height, width, -1), node, weight, likeness.view_as(number)))
        return levels[min(self.root, len(levels) - 1) :]


def _parents(height: int, width: int, device: torch.device) -> Tensor:
    """(h, w) int64 node of the level above; the first row or column of an odd side is on its own."""
    row, column = ((torch.arange(side, device=device) + side % 2) // 2 for side in (height, width))
    return row[:, None] * (-(-width // 2)) + column


def _likeness(mean: Tensor, below: Tensor, parent: Tensor, filled: Tensor) -> Tensor:
    """(T, nodes) float64, the least cosine of each node to four children, the first node of all for missing ones."""
    frames, count = mean.shape[:2]
    least = torch.full((frames, count), torch.inf, dtype=torch.float64, device=mean.device)
    children, index = torch.bincount(parent.flatten(), minlength=count), parent.flatten()
    for t in range(frames):
        up, down = unit64(mean[t]), unit64(below[t].flatten(0, 1))
        cosine = fine((up[index] * down).sum(1)).masked_fill(filled[t] == 0, torch.inf)
        least[t].scatter_reduce_(0, index, cosine, "amin")
        to_first = fine(up @ down[0])
        least[t] = torch.where((children < 4) & (filled[t][0] > 0), torch.minimum(least[t], to_first), least[t])
    return least


def _nodes(clip: Clip, levels: list[Level], threshold: float) -> Nodes:
    """The nodes that stay at a spatial threshold."""
    frame, row, column = clip.coords.T
    level = torch.full_like(frame, len(levels) - 1)
    for number in reversed(range(len(levels) - 1)):
        likeness = levels[number].likeness
        assert likeness is not None
        stays = (likeness >= threshold).flatten(1)[frame, levels[number].node[row, column]]
        level = torch.where(stays, number, level)
    weight = torch.stack([one.weight[frame, row, column] for one in levels])[level, torch.arange(len(level))]
    node = torch.stack([one.node[row, column] for one in levels])[level, torch.arange(len(level))]
    most = max(int(one.node.max()) for one in levels) + 1
    _, same = ((frame * len(levels) + level) * most + node).unique(return_inverse=True)
    tokens, count = torch.arange(len(clip), device=frame.device), int(same.max()) + 1
    head = torch.full((count,), len(clip), device=frame.device).scatter_reduce(0, same, tokens, "amin")
    order = torch.sort(head).indices
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count, device=order.device)
    token, head = rank[same], head[order]
    mean = torch.empty(count, clip.features.shape[1], dtype=torch.float32, device=frame.device)
    for number, one in enumerate(levels):
        own = (level[head] == number).nonzero()[:, 0]
        mean[own] = one.mean.flatten(1, 2)[frame[head[own]], node[head[own]]]
    return Nodes(frame[head], mean, token, weight)


def _groups(nodes: Nodes, before: Tensor, threshold: float) -> Tensor:
    """(m,) int64 the number that each node ends up with, that of the node which stands for it.

    Args:
        nodes: that stay.
        before: (n,) int64 the token at the same position of the frame before, −1 where there is none.
        threshold: cosine of nodes that are joined; 0 and below for none.
    """
    group = torch.arange(len(nodes.frame), device=nodes.frame.device)
    if threshold <= 0 or bool((before < 0).all()):
        return group
    # Nodes of one tree that share a position cover each other.
    later = (before >= 0).nonzero()[:, 0]
    count = len(nodes.frame)
    pairs = (nodes.token[before[later]] * count + nodes.token[later]).unique()
    pairs = torch.stack([pairs // count, pairs % count])
    parts = pairs.split(BLOCK, dim=1)
    alike = torch.cat([pair_cosines(nodes.mean[a], nodes.mean[b]) for a, b in parts]) >= threshold
    earlier, later = pairs[:, alike]
    while True:
        smallest = torch.minimum(group[earlier], group[later])
        group = group.scatter_reduce(0, earlier, smallest, "amin").scatter_reduce(0, later, smallest, "amin")
        group = group[group]
        if torch.equal(group, group[group]):
            return group
