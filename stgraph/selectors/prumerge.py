"""PruMerge and PruMerge+: prune by attention, and merge what is pruned into its like."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_number
from ..kernels import snap
from .per_video import Choice, Clip, EncoderSelector, shares


@dataclass(frozen=True, kw_only=True)
class PruMerge(EncoderSelector):
    """LLaVA-PruMerge (Shang et al., 2024): the most attended tokens of each frame take their like in.

    Followed: the tokens with the most attention stay. A kept token i becomes x_i + Σ a_j·x_j over its ``neighbours``
    nearest pruned tokens by key similarity, a being the attention. One token more is made of what is left, Σ a_j·x_j.

    Departures: the budget replaces the adaptive share (outliers above Q3 + 1.5·IQR of the attention; the notes say what
    that would have kept). Attention is the encoder's signal, a head mean in the block whose features are used, where
    the original takes the last block and the whole width as one head. A pruned token is merged once only, into the most
    similar of the tokens whose neighbour it is. The token that sums up what no other took in is counted in the budget
    and stands at the next most attended token; a frame that keeps one token or all has none. Frames keep ⌊r·n⌋ or
    ⌈r·n⌉ of their n tokens.

    Attributes:
        neighbours: tokens that a kept one may take in.
    """

    neighbours: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("neighbours", self.neighbours, at_least=1, integer=True)

    def choose(self, clip: Clip) -> Choice:
        """Frame by frame, the kept tokens and what they take in."""
        attention, key = self.read(clip)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=key.device)
        target = torch.full((len(clip),), -1, dtype=torch.int64, device=key.device)
        weight = torch.zeros(len(clip), device=key.device)
        counts = shares(clip.retention, clip.sizes)
        for frame, count in zip(clip.frames, counts, strict=True):
            order = self._order(attention[frame], count)
            with_rest = 1 < count < len(order)
            heads, dropped = order[: count - with_rest], order[count:].sort().values
            chosen[frame.start + order[:count]] = True
            weight[frame.start + heads] = 1
            if count == 0 or len(dropped) == 0:
                continue
            taken = self._nearest_head(key[frame][dropped], key[frame][heads])
            into = torch.where(taken >= 0, heads[taken.clamp(min=0)], order[count - 1] if with_rest else -1)
            target[frame.start + dropped] = torch.where(into >= 0, into + frame.start, -1)
            merged = torch.cat([dropped[into >= 0], order[len(heads) : count]])
            weight[frame.start + merged] = attention[frame][merged].float()
        return Choice(attention, chosen, target, weight, _adaptive(attention, clip))

    def _order(self, attention: Tensor, count: int) -> Tensor:
        """The tokens of a frame, those to keep first."""
        return torch.sort(attention, stable=True, descending=True).indices

    def _nearest_head(self, dropped: Tensor, heads: Tensor) -> Tensor:
        """(m,) int64, which head takes each of m pruned tokens in, −1 where it is no head's neighbour."""
        similarity = snap(heads @ dropped.T)
        rank = torch.sort(similarity, dim=1, stable=True, descending=True).indices
        near = torch.zeros_like(similarity, dtype=torch.bool)
        near.scatter_(1, rank[:, : self.neighbours], True)
        best, place = similarity.masked_fill(~near, -torch.inf).max(0)
        return torch.where(best > -torch.inf, place, -1)


@dataclass(frozen=True, kw_only=True)
class PruMergePlus(PruMerge):
    """PruMerge+ (Shang et al., 2024): as :class:`PruMerge`, half of the kept tokens spread evenly over the frame.

    Followed: evenly spaced tokens join the most attended ones before anything is merged.

    Departures: those of PruMerge; of the K tokens that a frame keeps ⌊K / 2⌋ are spread evenly, at ⌊(k + ½)·n / ⌊K /
    2⌋⌋, and the most attended others fill the budget.
    """

    def _order(self, attention: Tensor, count: int) -> Tensor:
        """The evenly spread tokens and then the others by attention."""
        spread = torch.zeros(len(attention), dtype=torch.bool, device=attention.device)
        half = count // 2
        spread[(2 * torch.arange(half, device=attention.device) + 1) * len(attention) // max(2 * half, 1)] = True
        order = super()._order(attention, count)
        return order[torch.sort(spread[order].int(), stable=True, descending=True).indices]


def _adaptive(attention: Tensor, clip: Clip) -> str:
    """What the budget keeps, and what the adaptive share of the paper would have."""
    count = 0
    quartiles = attention.new_tensor([0.25, 0.75])
    for frame in clip.frames:
        low, high = torch.quantile(attention[frame], quartiles).tolist()
        count += int((attention[frame] > high + 1.5 * (high - low)).sum())
    share = f" (retention={count / len(clip):.3g})" if count else ""
    return (
        f"the budget keeps {clip.budget} of {len(clip)} tokens; by attention outliers alone, as published without a "
        f"budget, {count} would have been kept{share}"
    )
