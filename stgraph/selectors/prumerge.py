"""PruMerge and PruMerge+: prune by attention, and merge what is pruned into its like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import check_number
from .per_video import Choice, Clip, EncoderSelector
from .selection import Blend
from .similarity import cosines


@dataclass(frozen=True, kw_only=True)
class PruMerge(EncoderSelector):
    """LLaVA-PruMerge (Shang et al., ICCV 2025, arXiv 2403.15388): the most attended tokens absorb similar ones.

    Followed, for every frame: the most attended tokens are heads. A head i becomes x_i + Σ a_j·x_j over the
    ``neighbours`` other tokens of the most similar keys, heads or not, a being the attention. One row more is Σ a_j·x_j
    over all tokens that are no head. ``count="published"``: the share of heads is that of the tokens whose attention
    is above Q3 + 1.5·(Q3 − Q1), in doubles, or with ``adaptive=False`` the retention.

    Departures: attention and keys are the signals of the encoder, a head mean, where theirs takes the last block with
    all heads as one vector. Heads stay in raster order; the row more, which theirs puts last, stands at the next most
    attended token. ``count="exact"``: a frame keeps ⌊r·n⌋ or ⌈r·n⌉ rows with the row more, which a frame of one row
    does without; the notes say what the adaptive share would have kept.

    Attributes:
        neighbours: tokens that a head takes in.
        adaptive: whether the number of heads comes from the attention, for ``count="published"``.
    """

    neighbours: int = 32
    adaptive: bool = True

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("neighbours", self.neighbours, at_least=1, integer=True)

    def choose(self, clip: Clip) -> Choice:
        """The attention; frame by frame, the heads, the row more and what they take in."""
        attention, key = self.read(clip)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=key.device)
        blends, adaptive = [], 0
        for frame, count in zip(clip.frames, clip.frame_counts(exact=True), strict=True):
            a = attention[frame]
            outliers = _outliers(a)
            adaptive += outliers
            order = torch.sort(a, stable=True, descending=True).indices
            if self.exact:
                with_rest = 1 < count < len(a)
                heads = self._fitting(order, count - with_rest)
            else:
                share = outliers / len(a) if self.adaptive else clip.retention
                heads = self._heads(order, int(len(a) * share), share)
                with_rest = len(heads) < len(a)
            is_head = torch.zeros(len(a), dtype=torch.bool, device=a.device)
            is_head[heads] = True
            chosen[frame.start + heads] = True
            rest = order[~is_head[order]]
            blends += [_shifted(part, frame.start) for part in self._taken_in(heads, rest, with_rest, a, key[frame])]
            if with_rest:
                chosen[frame.start + rest[0]] = True
        return Choice(
            attention, chosen, blend=Blend.cat(blends) if blends else None, note=_note(clip, adaptive, self.exact)
        )

    def _heads(self, order: Tensor, count: int, share: float) -> Tensor:
        """The heads of a frame as published: the first ``count`` of its tokens in falling order of attention."""
        return order[:count]

    def _fitting(self, order: Tensor, count: int) -> Tensor:
        """Exactly ``count`` heads."""
        return order[:count]

    def _taken_in(self, heads: Tensor, rest: Tensor, with_rest: bool, attention: Tensor, key: Tensor) -> list[Blend]:
        """What the rows of a frame become."""
        blends = []
        weight = attention.to(torch.float32)
        if len(heads) and len(key) > 1:
            similar = cosines(key[heads], key)
            similar[torch.arange(len(heads), device=heads.device), heads] = -torch.inf
            near = torch.sort(similar, dim=1, stable=True, descending=True).indices
            near = near[:, : min(self.neighbours, len(key) - 1)]
            blends.append(Blend(heads[:, None].expand_as(near).flatten(), near.flatten(), weight[near.flatten()]))
            blends.append(Blend(heads, heads, torch.ones_like(weight[heads])))
        if with_rest:
            blends.append(Blend(rest[:1].expand_as(rest), rest, weight[rest]))
        return blends


@dataclass(frozen=True, kw_only=True)
class PruMergePlus(PruMerge):
    """PruMerge+ (Shang et al., ICCV 2025): as :class:`PruMerge`, with about three evenly spaced heads for each.

    Followed: beside the most attended tokens, every int(step / 3)-th token of a frame is a head, step being int(1 /
    share), except the last.

    Departures: those of :class:`PruMerge`. A share above a third, at which theirs fails, takes every token.
    ``count="exact"``: the largest number of attended heads whose rows fit, and then the next most attended.
    """

    def _heads(self, order: Tensor, count: int, share: float) -> Tensor:
        """The most attended tokens, and evenly spaced others behind them."""
        if not share:
            return order[:0]
        spread = torch.arange(0, len(order) - 1, max(1, int(int(1 / share) / 3)), device=order.device)
        return torch.cat([order[:count], spread[~torch.isin(spread, order[:count])]])

    def _fitting(self, order: Tensor, count: int) -> Tensor:
        heads = order[:0]
        for attended in range(1, count + 1):
            more = self._heads(order, attended, attended / len(order))
            if len(more) > count:
                break
            heads = more
        rest = order[~torch.isin(order, heads)]
        return torch.cat([heads, rest[: count - len(heads)]])


def _outliers(attention: Tensor) -> int:
    """Tokens whose attention is above Q3 + 1.5·(Q3 − Q1)."""
    low, high = torch.quantile(attention, attention.new_tensor([0.25, 0.75])).tolist()
    return int((attention > high + 1.5 * (high - low)).sum())


def _shifted(blend: Blend, start: int) -> Blend:
    return Blend(blend.into + start, blend.source + start, blend.weight)


def _note(clip: Clip, adaptive: int, exact: bool) -> str:
    """What the budget keeps, and what the adaptive share of the paper would have."""
    if not exact:
        return ""
    share = f" (retention={adaptive / len(clip):.3g})" if adaptive else ""
    return (
        f"the budget keeps {clip.budget} of {len(clip)} tokens; by attention outliers alone, as published without a "
        f"budget, {adaptive} would have been kept{share}"
    )
