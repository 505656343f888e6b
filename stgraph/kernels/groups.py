"""Groups of vertices whose unit vectors have been summed in passing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

NEVER = 2.0
"""A cosine that no edge reaches."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Disjoint groups of vertices that similar edges join, and the sums of their unit vectors.

    They are found while edges are, when the features are in cache, so that the sum of a community need not read them
    again. Whoever uses them must see to it that a community holds a group whole.

    Attributes:
        member: (V,) int64 group of each vertex, −1 where it is in none.
        sums: (g, room) float32 each, d numbers in the order in which the kernels read features, and zeros; groups are
            numbered through all of them.
    """

    member: Tensor
    sums: tuple[Tensor, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.sums)

    def addresses(self) -> Tensor:
        """(g,) int64, where the sum of each group lies in memory."""
        parts = [part.data_ptr() + torch.arange(len(part)) * (4 * part.stride(0)) for part in self.sums]
        return torch.cat([torch.empty(0, dtype=torch.int64), *parts])

    def rows(self, rows: slice) -> Groups:
        """The groups of some vertices in a row."""
        return replace(self, member=self.member[rows])


def join_groups(parts: list[Groups | None], counts: list[int]) -> Groups | None:
    """Groups of graphs as those of one graph; ``counts`` are their vertices. None where no part has any."""
    if not any(parts):
        return None
    members: list[Tensor] = []
    sums: tuple[Tensor, ...] = ()
    for part, count in zip(parts, counts, strict=True):
        if part is None:
            members.append(torch.full((count,), -1))
        else:
            before = sum(map(len, sums))
            members.append(part.member if not before else torch.where(part.member < 0, -1, part.member + before))
            sums += part.sums
    return Groups(members[0] if len(members) == 1 else torch.cat(members), sums)
