"""Random selection: the first floor that every method must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..importance.graph import uniform_numbers
from ..signals import Signals
from ..tokens import VideoTokens
from .base import Ranking, Selector


@dataclass(frozen=True, kw_only=True)
class RandomSelector(Selector):
    """⌈r·N⌉ tokens of each video, uniformly at random.

    Attributes:
        seed: of the generator; the same tokens of a video whether it is alone or in a batch.
    """

    seed: int = 0

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """A random number for every token."""
        counts = torch.bincount(tokens.batch, minlength=tokens.num_videos).tolist()
        numbers = torch.cat([uniform_numbers(count, self.seed) for count in counts])
        return Ranking(importance=numbers.to(tokens.device))
