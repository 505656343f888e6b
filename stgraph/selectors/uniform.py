"""Uniform selection: the second floor that every method must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..budget import ceil_share, evenly_spaced
from ..signals import Signals
from ..tokens import VideoTokens
from .base import Ranking, Selector


@dataclass(frozen=True, kw_only=True)
class UniformSelector(Selector):
    """⌈r·N⌉ tokens of each video, evenly strided over its visual tokens in raster order."""

    def rank(self, tokens: VideoTokens, signals: Signals) -> Ranking:
        """1 for the tokens at ⌊(k + ½)·N / K⌋, k = 0 … K − 1, and 0 for the others."""
        importance = torch.zeros(len(tokens), dtype=torch.float32, device=tokens.device)
        visual = self.visual(tokens)
        for video in range(tokens.num_videos):
            members = (visual & (tokens.batch == video)).nonzero()[:, 0]
            budget = ceil_share(self.retention, len(members))
            importance[members[evenly_spaced(len(members), budget).to(tokens.device)]] = 1
        return Ranking(importance=importance)
