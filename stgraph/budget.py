"""Exact budgets: shares of counts without rounding errors."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

SLACK: Final = Fraction(1, 10**12)
"""How far a share may be off: 1 − 0.7, which Python prints as 0.30000000000000004, is meant as 0.3."""


def ceil_share(share: float, count: int) -> int:
    """⌈share · count⌉ in exact arithmetic; a share that is above the right one by no more than :data:`SLACK` gives the
    same.
    """
    return math.ceil(_low(share) * count)


def floor_share(share: float, count: int) -> int:
    """⌊share · count⌋ in exact arithmetic; a share that is below the right one by no more than :data:`SLACK` gives the
    same.
    """
    return math.floor((exact_share(share) + SLACK) * count)


def ceil_shares(share: float, counts: Tensor, most: int | None = None) -> Tensor:
    """⌈share · count⌉ of every count, in exact arithmetic as :func:`ceil_share`: int64 of the same shape.

    Args:
        share: in [0, 1].
        counts: int64.
        most: counts are from 0 to this; None looks, which waits for a GPU.
    """
    bound = most if most is not None else int(counts.abs().max()) if counts.numel() else 0
    exact = _low(share)
    if exact.numerator * bound + exact.denominator < 2**63:
        return torch.div(counts * exact.numerator + exact.denominator - 1, exact.denominator, rounding_mode="floor")
    # The share has so many digits that int64 would overflow: compute one count at a time with Python's integers.
    known, place = torch.unique(counts, return_inverse=True) if most is None else (torch.arange(most + 1), counts)
    table = torch.tensor([math.ceil(exact * n) for n in known.tolist()], dtype=torch.int64)
    return table.to(counts.device, non_blocking=True)[place]


def share_of(tokens: int, count: int) -> float:
    """The share that ``tokens`` are of ``count``, rounded down to 12 decimals.

    So ⌈share · count⌉ is exactly ``tokens``, where the nearest decimal may lie just above the quotient, and one token
    more would stay. Of a part of the ``count``, as many stay as by the quotient itself.

    Args:
        tokens: 1 to ``count``.
        count: up to 10⁶.
    """
    steps: int = 10**12
    return (tokens * steps // count) / steps


def evenly_spaced(count: int, budget: int) -> Tensor:
    """(budget,) int64, the middles of ``budget`` equal parts of ``count`` places: ⌊(k + ½) · count / budget⌋."""
    steps = torch.arange(budget, dtype=torch.int64)
    return (2 * steps + 1) * count // max(2 * budget, 1)


@lru_cache(maxsize=64)
def exact_share(share: float) -> Fraction:
    """The decimal number that Python prints for ``share``."""
    return Fraction(repr(float(share)))


@lru_cache(maxsize=64)
def _low(share: float) -> Fraction:
    """``share`` less the slack; one that is as small as the slack is taken as it is, for it is more than nothing."""
    exact = exact_share(share)
    return exact - SLACK if exact > 2 * SLACK else exact
