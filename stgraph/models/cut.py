"""Cut: which columns of a batch of sequences stay, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Cut:
    """The columns that stay of each of B sequences of one length, padded on the left to the longest row.

    Attributes:
        length: columns before the cut; columns that are appended later all stay.
        columns: (B, K) int64, ascending; padding repeats the first column that stays.
        valid: (B, K) bool, False for padding.
    """

    length: int
    columns: Tensor
    valid: Tensor

    @classmethod
    def of(cls, keep: Tensor) -> Cut:
        """From (B, S) bool; at least one column stays of every row."""
        counts = keep.sum(1, keepdim=True)
        width = int(counts.max())
        # A stable sort puts the columns that stay last and leaves them in order.
        columns = torch.sort(keep.to(torch.uint8), dim=1, stable=True).indices[:, -width:]
        valid = torch.arange(width, device=keep.device) >= width - counts
        return cls(keep.shape[1], torch.where(valid, columns, columns.gather(1, width - counts)), valid)

    @property
    def width(self) -> int:
        """K."""
        return self.columns.shape[1]

    def after(self, first: Cut) -> Cut:
        """This cut of what ``first`` leaves, as one cut."""
        columns = first.columns.to(self.columns.device).gather(1, self.columns)
        return Cut(first.length, columns, self.valid)

    def repeated(self, copies: int) -> Cut:
        """The same cut of ``copies`` of each row, one after the other."""
        return Cut(self.length, *(x.repeat_interleave(copies, 0) for x in (self.columns, self.valid)))

    def places(self) -> Tensor:
        """(B, S) int64, the column that each one becomes, −1 for those that go."""
        rows, width = self.columns.shape
        new = self.columns.new_full((rows, self.length + 1), -1)
        stay = torch.where(self.valid, self.columns, self.length)
        new.scatter_(1, stay, torch.arange(width, device=stay.device).expand(rows, -1))
        return new[:, : self.length]

    def take(self, x: Tensor, dim: int = 1) -> Tensor:
        """The columns that stay of ``x``, whose rows are at ``dim - 1`` (B, or 1 for all) and columns at ``dim``.

        Beyond ``length``, ``x`` may have any number of appended columns.
        """
        columns = self.columns.to(x.device)
        rows = len(columns)
        appended = torch.arange(self.length, x.shape[dim], device=x.device).expand(rows, -1)
        columns = torch.cat([columns, appended], 1)
        x = x.expand(*x.shape[: dim - 1], rows, *x.shape[dim:])
        return x[(slice(None),) * (dim - 1) + (torch.arange(rows, device=x.device)[:, None], columns)]

    def put(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`take` along ``dim=1``: (B, K + t, ...) → (B, S + t, ...), 0 in the columns that go."""
        rows = len(x)
        appended = torch.arange(self.width, x.shape[1], device=x.device).expand(rows, -1)
        places = torch.cat([self.places().to(x.device), appended], 1)
        out = x[torch.arange(rows, device=x.device)[:, None], places.clamp(min=0)]
        return out.masked_fill_((places < 0).view(*places.shape, *[1] * (x.ndim - 2)), 0)

    def mask(self, mask: Tensor) -> Tensor:
        """The same of a (B, S + t) attention mask: int64, with 0 at padding."""
        kept = self.take(mask.to(torch.int64))
        kept[:, : self.width] *= self.valid.to(kept.device)
        return kept
