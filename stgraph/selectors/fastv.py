"""FastV: what the language model looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import check_choice
from .base import place_of
from .per_video import ATTENTION_SOURCES, AttentionSource, Choice, Clip, VideoSelector


@dataclass(frozen=True, kw_only=True)
class FastV(VideoSelector):
    """FastV (Chen et al., ECCV 2024): the tokens that the last prompt token attends to most in an early LLM layer.

    Followed: a_j = head-mean attention of the last prompt token to token j in layer K − 1; the ⌈r·N⌉ largest of the
    video stay, wherever they lie.

    Attached to a model, all tokens enter it and the others leave before layer K = 2, as published. Departures: as a
    plain selector it drops them from the whole LLM.

    Attributes:
        signal: whose attention: the LLM's as published, the encoder's, or the substitute ``"features"``. With the
            latter two the place of the method is before the LLM.
    """

    signal: AttentionSource = "llm_attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("signal", self.signal, ATTENTION_SOURCES)

    def choose(self, clip: Clip) -> Choice:
        """The attention itself."""
        return Choice(clip.attention(self.signal))

    @property
    def natural_trim(self) -> Literal["before", "inside"]:
        """Inside the model whose attention it asks for."""
        return place_of(self.signal)
