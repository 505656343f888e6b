"""Verdict: what became of a token."""

from __future__ import annotations

import enum

import torch
from torch import Tensor


class Verdict(enum.IntEnum):
    """What became of a token."""

    DROPPED = 0
    """Neither a representative nor an event."""
    REPRESENTATIVE = 1
    """Kept: among the most central tokens of its community."""
    EVENT = 2
    """Kept: it differs from its past."""
    BOTH = 3
    """Kept: a representative and an event."""
    FILLED = 4
    """Kept by its importance alone, because the candidates did not fill the budget or the method has none."""
    TRIMMED = 5
    """A candidate that was dropped to meet the budget."""
    SEPARATOR = 6
    """A newline token that was kept."""


KEPT = (Verdict.REPRESENTATIVE, Verdict.EVENT, Verdict.BOTH, Verdict.FILLED, Verdict.SEPARATOR)


def verdict_of(candidate: Tensor, keep: Tensor) -> Tensor:
    """What becomes of tokens: uint8 :class:`Verdict` codes.

    Args:
        candidate: uint8 bits, 1 = representative, 2 = event.
        keep: bool, of the same shape.
    """
    some, kept = (candidate > 0).to(torch.uint8), keep.to(torch.uint8)
    dropped, filled = some - some * kept, kept - some * kept
    return candidate * kept + int(Verdict.TRIMMED) * dropped + int(Verdict.FILLED) * filled
