"""Parts that methods are made of: unit vectors, shares of a budget, largest scores, means of groups, trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..budget import ceil_share
from ..kernels import norms, round_to
from .selection import Blend

TEMPERATURE = 0.1
"""Of the softmax in :func:`feature_attention`."""


# -- vectors ----------------------------------------------------------------------------------------------------------


def unit_rows(x: Tensor, length: Tensor | None = None) -> Tensor:
    """(n, d) float32 unit vectors of the rows of any magnitude, whose lengths may be known; zero rows stay zero."""
    length = norms(x, torch.arange(len(x), device=x.device)) if length is None else length
    scale = torch.where(length > 0, 1 / length, 0.0)
    unit = x.float() * scale.float()[:, None]
    extreme = (scale > 0) & ((scale < 1e-12) | (scale > 1e12))
    if bool(extreme.any()):
        unit[extreme] = (x[extreme].double() * scale[extreme, None]).float()
    return unit


def feature_attention(unit: Tensor) -> Tensor:
    """Mean attention that each token of a frame would receive, were the unit features its queries and keys.

    A substitute for encoder attention where there is no model; the softmax has temperature 0.1.

    Args:
        unit: (n, d) float32 unit vectors of one frame.

    Returns:
        (n,) float64, rounded so that equal tokens receive equal attention; sums to 1 up to that.
    """
    return round_to((unit @ unit.T / TEMPERATURE).softmax(1).mean(0), 2.0**-24)


# -- budgets ----------------------------------------------------------------------------------------------------------


def shares(retention: float, counts: Sequence[int]) -> list[int]:
    """Split ⌈r·Σn⌉ evenly: part k gets ⌈r·(n_1 + … + n_k)⌉ less what came before, so ⌊r·n_k⌋ or ⌈r·n_k⌉."""
    given, seen, split = 0, 0, []
    for count in counts:
        seen += count
        split.append(ceil_share(retention, seen) - given)
        given += split[-1]
    return split


def bisect(count_at: Callable[[float], int], low: float, high: float, wanted: int, *, steps: int) -> float:
    """The value from ``low`` to ``high`` whose count is nearest to the wanted one, of equally near ones the first.

    Args:
        count_at: the count at a value, which should not fall when the value rises.
        low: a value of too low a count, which is tried.
        high: a value of too high a count, which is tried.
        wanted: the count to find.
        steps: values between them that are tried at most.
    """
    best, best_gap = low, abs(count_at(low) - wanted)
    if (gap := abs(count_at(high) - wanted)) < best_gap:
        best, best_gap = high, gap
    for _ in range(steps):
        if not best_gap:
            break
        middle = (low + high) / 2
        count = count_at(middle)
        if (gap := abs(count - wanted)) < best_gap:
            best, best_gap = middle, gap
        low, high = (middle, high) if count < wanted else (low, middle)
    return best


def first(score: Tensor, count: int) -> Tensor:
    """(n,) bool, the ``count`` largest scores, ties to the smaller index."""
    chosen = torch.zeros(len(score), dtype=torch.bool, device=score.device)
    chosen[torch.sort(score, stable=True, descending=True).indices[:count]] = True
    return chosen


# -- merging ----------------------------------------------------------------------------------------------------------


def means_of(group: Tensor, head: Tensor) -> Blend:
    """The sums by which every head becomes the mean of its group.

    Args:
        group: (n,) int64 group of each token, −1 for none.
        head: (g,) int64 token that stands for each group; it need not be in it.
    """
    source = (group >= 0).nonzero()[:, 0]
    own = group[source]
    return Blend(head[own], source, 1 / torch.bincount(own, minlength=len(head))[own].to(torch.float32))


def mean_weights(chosen: Tensor, target: Tensor) -> Tensor:
    """(n,) float32 weights by which every kept token becomes the mean of itself and of what is merged into it."""
    index = torch.arange(len(chosen), device=chosen.device)
    head = torch.where(chosen, index, target)
    inside = head >= 0
    size = torch.bincount(head[inside], minlength=len(chosen))
    return torch.where(inside, 1 / size[head.clamp(min=0)].clamp(min=1).to(torch.float32), 0.0)


def roots(parent: Tensor) -> Tensor:
    """(n,) int64 root of every token of a forest; ``parent`` is −1 at roots and points to smaller indices."""
    index = torch.arange(len(parent), device=parent.device)
    root = torch.where(parent >= 0, parent, index)
    while not torch.equal(above := root[root], root):
        root = above
    return root
