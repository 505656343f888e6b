"""SparseVLM: prune by the attention of text, and recycle a part of what is pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..errors import check_number
from .fastv import FastV
from .per_video import Choice, Clip, first
from .selection import Blend
from .similarity import density_peaks


@dataclass(frozen=True, kw_only=True)
class SparseVLM(FastV):
    """SparseVLM (Zhang et al., ICML 2025, arXiv 2410.04417), v1: what goes is recycled into a few clusters.

    Followed: the most attended visual tokens stay. Of the m others the int(0.3·m) + 1 most attended are clustered by
    density peaks into one tenth as many, plus one, and each cluster becomes its sum divided by its size + 10⁻⁶.

    Departures: attention is that of the last prompt token, where theirs takes the mean over the text tokens that look
    at the picture most. Attached to a model there is one round at layer 2 with the retention as its share, where theirs
    has three, at layers 2, 6 and 15, with numbers of tokens for each. A cluster stands at its centre, where theirs puts
    it behind the kept tokens. Clusters count towards the budget, in both counts; where it has no room for them, nothing
    is recycled. No output of theirs was at hand to compare with.

    Attributes:
        recycled: share of the pruned tokens that are recycled, in [0, 1].
        merged: recycled tokens for each cluster.
    """

    recycled: float = 0.3
    merged: int = 10

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("recycled", self.recycled, at_least=0, at_most=1)
        check_number("merged", self.merged, at_least=1, integer=True)

    def choose(self, clip: Clip) -> Choice:
        """The attention; what is recycled, and into what."""
        attention = clip.attention(self.signal)
        pool = int(self.recycled * (len(clip) - clip.budget)) + 1
        clusters = int(pool / self.merged) + 1
        if clip.budget <= clusters or len(clip) - clip.budget + clusters < pool:
            return Choice(attention)
        kept = first(attention, clip.budget - clusters)
        rows = first(attention.masked_fill(kept, -torch.inf), pool).nonzero()[:, 0]
        centre, member = density_peaks(clip.features[rows], clusters).clusters(clusters)
        size = torch.bincount(member, minlength=len(centre)).double()
        head = rows[centre]
        weight = (1 / (size + 1e-6))[member].to(torch.float32)
        return Choice(attention, kept.index_fill(0, head, True), blend=Blend(head[member], rows, weight))
