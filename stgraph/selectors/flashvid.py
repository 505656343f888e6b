"""FlashVID: trees of tokens that follow each other through time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import check_number
from .per_video import Choice, Clip, VideoSelector, first, mean_weights, on_grid, previous_matches, roots


@dataclass(frozen=True, kw_only=True)
class FlashVID(VideoSelector):
    """The temporal trees of FlashVID (2026): a token joins its best match in the previous frame, anywhere in it.

    Followed: a token whose best match has cos > the threshold hangs itself below it; each tree is merged into its root,
    the earliest token, as a mean.

    Departures: the tree merging alone, without the attention and diversity stage before it. Where the trees would be
    fewer than the budget, only the strongest links count, as many as leave ⌈r·N⌉ trees; where they are more, those of
    the most tokens stay, ties to the earlier root.

    Attributes:
        similarity_threshold: cosine that a link must exceed, in [−1, 1].
    """

    similarity_threshold: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """The number of tokens below each root."""
        match, similarity = previous_matches(clip, radius=None)
        link = (match >= 0) & (similarity > on_grid(self.similarity_threshold))
        link = first(similarity.masked_fill(~link, -torch.inf), min(int(link.sum()), len(clip) - clip.budget))
        root = roots(torch.where(link, match, -1))
        size = torch.bincount(root, minlength=len(clip)).double()
        chosen = first(size, clip.budget)
        target = torch.where(link & chosen[root], root, -1)
        return Choice(size, chosen, target, mean_weights(chosen, target))
