"""DART: drop what repeats a few pivots."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import check_choice, check_number
from ..kernels import snap
from .per_video import KEY_SOURCES, Choice, Clip, KeySource, VideoSelector, first


@dataclass(frozen=True, kw_only=True)
class DART(VideoSelector):
    """DART (Wen et al., EMNLP 2025): duplication, not importance, decides what goes.

    Followed: the tokens with the largest key norm are pivots and stay; of the others those most similar to a pivot go.

    Departures: all pivots are visual tokens; keys come from the vision encoder, not from an LLM layer; similarity is
    the cosine of the features, the largest to any pivot, ranked over the whole video.

    Attributes:
        pivots: how many, per video.
        keys: whose norm makes a pivot: the encoder's keys, or ``"features"``.
    """

    pivots: int = 8
    keys: KeySource = "encoder_keys"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("pivots", self.pivots, at_least=1, integer=True)
        check_choice("keys", self.keys, KEY_SOURCES)

    def choose(self, clip: Clip) -> Choice:
        """1 − the largest cosine to a pivot; 3 for pivots, above any other."""
        length = torch.linalg.vector_norm(clip.keys(self.keys).double(), dim=1)
        pivot = first(length, min(self.pivots, clip.budget))
        novelty = snap(1 - (clip.unit @ clip.unit[pivot].T).amax(1))
        return Choice(novelty.masked_fill(pivot, 3.0))
