"""FrameFusion: merge what stays the same, then prune by attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import check_choice, check_number
from .per_video import (
    ATTENTION_SOURCES,
    AttentionSource,
    Choice,
    Clip,
    VideoSelector,
    first,
    mean_weights,
    on_grid,
    previous_matches,
    roots,
)


@dataclass(frozen=True, kw_only=True)
class FrameFusion(VideoSelector):
    """FrameFusion (Fu et al., ICCV 2025): tokens like their predecessor are merged into it, the rest is pruned.

    Followed: s = cosine of a token with the one at the same position of the previous frame. Tokens with s ≥ the
    threshold are merged, a run of them averaged into its head, which keeps its place; where that is more than the
    budget needs, exactly those with the largest s. If tokens are left over, those with the least attention are pruned.

    Departures: one merging on the tokens as they enter the LLM, without further rounds on its hidden states; the budget
    is ⌈r·N⌉, not a mean over the layers. A run whose head is pruned is lost with it.

    Attributes:
        similarity_threshold: S_th in [−1, 1].
        signal: whose attention prunes: the LLM's as published, the encoder's, or the substitute ``"features"``.
    """

    similarity_threshold: float = 0.6
    signal: AttentionSource = "llm_attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)
        check_choice("signal", self.signal, ATTENTION_SOURCES)

    def choose(self, clip: Clip) -> Choice:
        """Runs along the time axis, and the attention of their heads."""
        attention = clip.attention(self.signal)
        match, similarity = previous_matches(clip, radius=0)
        flagged = (match >= 0) & (similarity >= on_grid(self.similarity_threshold))
        merged = first(similarity.masked_fill(~flagged, -torch.inf), min(int(flagged.sum()), len(clip) - clip.budget))
        chosen = first(attention.masked_fill(merged, -torch.inf), clip.budget)
        head = roots(torch.where(merged, match, -1))
        target = torch.where(merged & chosen[head], head, -1)
        return Choice(attention, chosen, target, mean_weights(chosen, target))
