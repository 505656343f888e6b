"""Exact budgets: shares of counts without rounding errors."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor


def ceil_share(share: float, count: int) -> int:
    """⌈share · count⌉ in exact arithmetic, ``share`` being the decimal number that Python prints for it."""
    return math.ceil(Fraction(repr(float(share))) * count)


def ceil_shares(share: float, counts: Tensor) -> Tensor:
    """⌈share · count⌉ of every count: int64 of the same shape."""
    unique, inverse = torch.unique(counts, return_inverse=True)
    return torch.tensor([ceil_share(share, n) for n in unique.tolist()], dtype=torch.int64, device=counts.device)[
        inverse
    ]
