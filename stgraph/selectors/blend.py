"""Blend: kept tokens as weighted sums of the tokens that are merged into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 1 << 22
"""Numbers that a merge gathers at a time: 16 MB of float32."""


class Blend(NamedTuple):
    """Kept tokens as weighted sums of any tokens: a token may go into several, and a kept one into others.

    A kept token that nothing goes into stays as it was.

    Attributes:
        into: (m,) int64 the kept token.
        source: (m,) int64 the token that goes into it; its own part in the sum is an entry like any other.
        weight: (m,) float32 the factor.
    """

    into: Tensor
    source: Tensor
    weight: Tensor

    def sums(self, heads: Tensor, x: Tensor) -> Tensor:
        """(h, ...) the sums of the sorted ``heads`` (h,), of rows of ``x`` (N, ...), in float32 or wider."""
        wide = torch.promote_types(x.dtype, torch.float32)
        out = torch.zeros(len(heads), *x.shape[1:], dtype=wide, device=x.device)
        place = torch.searchsorted(heads, self.into.to(x.device))
        step = max(1, _BLOCK // max(1, x[:1].numel()))
        parts = (place, self.source.to(x.device), self.weight.to(x.device))
        for row, source, weight in zip(*(part.split(step) for part in parts), strict=True):
            rows = x[source].to(wide) * weight.to(wide).view(-1, *[1] * (x.ndim - 1))
            out = out.index_add(0, row, rows)
        return out

    def main_targets(self, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Where most of each token goes.

        Args:
            keep: (N,) bool, the kept tokens.

        Returns:
            (N,) int64 the kept token that takes in most of a dropped one, of equal ones the first, −1 for all others;
            and (N,) float32 that factor, for a kept token its factor in itself.
        """
        order = torch.sort(self.into, stable=True).indices
        order = order[torch.sort(self.weight[order], stable=True, descending=True).indices]
        order = order[torch.sort(self.source[order], stable=True).indices]
        source = self.source[order]
        begins = torch.ones_like(source, dtype=torch.bool)
        begins[1:] = source[1:] != source[:-1]
        best = order[begins & ~keep[source]]
        target = torch.full(keep.shape, -1, dtype=torch.int64, device=keep.device)
        target[self.source[best]] = self.into[best]
        weight = keep.to(torch.float32)
        weight[self.source[best]] = self.weight[best]
        weight[self.into] = 0.0
        own = self.into == self.source
        weight[self.into[own]] = self.weight[own]
        return target, weight

    def __eq__(self, other: object) -> bool:
        """Whether all entries are the same, in the same order."""
        if not isinstance(other, Blend):
            return NotImplemented
        return all(torch.equal(a, b) for a, b in zip(self, other, strict=True))

    @classmethod
    def empty(cls, device: torch.device) -> Blend:
        """Nothing goes anywhere."""
        none = torch.empty(0, dtype=torch.int64, device=device)
        return cls(none, none, none.to(torch.float32))

    @classmethod
    def cat(cls, parts: Sequence[Blend]) -> Blend:
        """One or several as one, sorted, the entries of the same two tokens added up.

        Every kept token has an entry of its own, which may be 0.
        """
        into, source, weight = (torch.cat(column) for column in zip(*parts, strict=True))
        if not len(into):
            return cls(into, source, weight)
        heads = into.unique()
        into, source = torch.cat([into, heads]), torch.cat([source, heads])
        weight = torch.cat([weight, torch.zeros_like(heads, dtype=weight.dtype)])
        width = int(torch.maximum(into.max(), source.max())) + 1
        key, place = (into * width + source).unique(return_inverse=True)
        total = torch.zeros(len(key), dtype=torch.float64, device=key.device).index_add_(0, place, weight.double())
        return cls(key // width, key % width, total.to(torch.float32))

    def changes(self) -> Blend:
        """The same as :meth:`cat` has it, without the kept tokens that stay as they were."""
        into, source, weight = Blend.cat([self])
        if not len(into):
            return self
        changed = (torch.bincount(into)[into] > 1) | (weight != 1)
        return Blend(into[changed], source[changed], weight[changed])


def blend_of(keep: Tensor, target: Tensor, weight: Tensor) -> Blend:
    """The sums by which each dropped token goes into one kept one.

    Args:
        keep: (n,) bool, the kept tokens.
        target: (n,) int64, the kept token that a dropped one goes into, −1 for all others.
        weight: (n,) float32 factor of each token in its sum.
    """
    index = torch.arange(len(keep), device=keep.device)
    head = torch.where(target >= 0, target, torch.where(keep, index, -1))
    changed = keep & (weight != 1)
    changed[target[target >= 0]] = True
    source = ((head >= 0) & changed[head.clamp(min=0)]).nonzero()[:, 0]
    return Blend(head[source], source, weight[source])
