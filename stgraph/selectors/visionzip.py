"""VisionZip: dominant tokens by attention, contextual tokens by merging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import check_number
from .parts import first
from .per_video import Choice, Clip, EncoderSelector
from .selection import blend_of
from .similarity import cosines


@dataclass(frozen=True, kw_only=True)
class VisionZip(EncoderSelector):
    """VisionZip (Yang et al., CVPR 2025): the most attended tokens of each frame, and the others merged into a few.

    Followed: of the K tokens that a frame keeps, C are contextual and the others dominant, the top by [CLS] attention
    (or attention received). Of the M tokens that are not dominant, targets lie at stride ⌊M / C⌋, the first C of them;
    every other token goes to the target with the most similar key. A target becomes h + mean of what it takes in.

    Departures: no [CLS] token is handed on, as video LLMs have none, so all dominant tokens are patches; features are
    merged as they reach the selector, which may be after the projector; kept tokens stay in raster order. Theirs has
    numbers of tokens in the place of a share: ``count="published"`` keeps ⌈r·n⌉ of the n tokens of each frame,
    ``count="exact"`` ⌊r·n⌋ or ⌈r·n⌉.

    Attributes:
        contextual: share of the kept tokens that are contextual, in [0, 1]; 10 of 64 as published.
    """

    contextual: float = 10 / 64

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("contextual", self.contextual, at_least=0, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """Frame by frame, the dominant and the contextual tokens."""
        attention, key = self.read(clip)
        chosen = torch.zeros(len(clip), dtype=torch.bool, device=key.device)
        target = torch.full((len(clip),), -1, dtype=torch.int64, device=key.device)
        weight = torch.zeros(len(clip), dtype=torch.float32, device=key.device)
        counts = clip.frame_counts(self.exact)
        for frame, count in zip(clip.frames, counts, strict=True):
            contextual = int(count * self.contextual + 0.5)
            dominant = first(attention[frame], count - contextual)
            targets, others = _targets((~dominant).nonzero()[:, 0], contextual)
            kept = dominant.index_fill(0, targets, True)
            chosen[frame] = kept
            weight[frame] = kept.to(torch.float32)
            if contextual and len(others):
                place = cosines(key[frame][others], key[frame][targets]).argmax(1)
                target[others + frame.start] = targets[place] + frame.start
                weight[others + frame.start] = (1 / torch.bincount(place).to(torch.float32))[place]
        return Choice(attention, chosen, blend=blend_of(chosen, target, weight))


def _targets(rest: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``count`` of the tokens ``rest`` at an even stride, and the others."""
    place = torch.arange(len(rest), device=rest.device)
    stride = max(1, len(rest) // max(count, 1))
    is_target = (place % stride == 0) & (place < count * stride)
    return rest[is_target], rest[~is_target]
