"""FasterVLM: what the vision encoder looks at."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .parts import first
from .per_video import AttentionSelector, Choice, Clip


@dataclass(frozen=True, kw_only=True)
class FasterVLM(AttentionSelector):
    """FasterVLM (Zhang et al., 2024): of each frame the tokens that the encoder's [CLS] token attends to most.

    Followed: the head-mean attention of [CLS] in the block whose features are used, or the mean attention received
    where the encoder has no [CLS]; the top share r of every frame stays, in raster order.

    Departures: ``count="exact"``: frames keep ⌊r·n⌋ or ⌈r·n⌉ of their n tokens, ``"published"`` ⌈r·n⌉. Inside a model
    the tokens that stay keep their positions, where the original numbers them anew.
    """

    def choose(self, clip: Clip) -> Choice:
        """The attention, and its largest values in every frame."""
        score = clip.attention(self.signal)
        counts = clip.frame_counts(self.exact)
        chosen = [first(score[frame], count) for frame, count in zip(clip.frames, counts, strict=True)]
        return Choice(score, torch.cat(chosen))
