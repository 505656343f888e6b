"""FasterVLM: what the vision encoder looks at."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import check_choice
from .per_video import ATTENTION_SOURCES, AttentionSource, Choice, Clip, VideoSelector, first, shares


@dataclass(frozen=True, kw_only=True)
class FasterVLM(VideoSelector):
    """FasterVLM (Zhang et al., 2024): of each frame the tokens that the encoder's [CLS] token attends to most.

    Followed: the head-mean attention of [CLS] in the block whose features are used, or the mean attention received
    where the encoder has no [CLS]; the top share r of every frame stays, in raster order.

    Departures: frames keep ⌊r·n⌋ or ⌈r·n⌉ of their n tokens, so that the video keeps exactly ⌈r·N⌉. Inside a model
    the tokens that stay keep their positions, where the original numbers them anew.

    Attributes:
        signal: whose attention: the encoder's as published, the LLM's, or the substitute ``"features"``.
    """

    signal: AttentionSource = "encoder_attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("signal", self.signal, ATTENTION_SOURCES)

    def choose(self, clip: Clip) -> Choice:
        """The attention, and its largest values in every frame."""
        score = clip.attention(self.signal)
        counts = shares(clip.retention, clip.sizes)
        chosen = [first(score[frame], count) for frame, count in zip(clip.frames, counts, strict=True)]
        return Choice(score, torch.cat(chosen))
