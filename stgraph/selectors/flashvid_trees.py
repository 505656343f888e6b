"""Trees of tokens that follow each other through time, each merged into its root."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import check_number
from .parts import first, mean_weights, roots
from .per_video import Choice, Clip, VideoSelector
from .selection import blend_of
from .similarity import cosines


@dataclass(frozen=True, kw_only=True)
class FlashVIDTrees(VideoSelector):
    """The temporal trees of FlashVID alone, as means: a variant of ours, not the published method.

    A token joins its best match anywhere in the previous frame if their cosine is above the threshold; each tree is
    merged into its root, the earliest token, as a plain mean. Where the trees would be fewer than the budget, only the
    strongest links count, as many as leave ⌈r·N⌉ trees; where they are more, those of the most tokens stay, ties to the
    earlier root. ``count="published"`` is the same, for nothing of it is published.

    Attributes:
        similarity_threshold: cosine that a link must exceed, in [−1, 1].
    """

    similarity_threshold: float = 0.8

    merging: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """The number of tokens below each root."""
        match, similarity = _best_matches(clip)
        link = (match >= 0) & (similarity > self.similarity_threshold)
        link = first(similarity.masked_fill(~link, -torch.inf), min(int(link.sum()), len(clip) - clip.budget))
        root = roots(torch.where(link, match, -1))
        size = torch.bincount(root, minlength=len(clip)).double()
        chosen = first(size, clip.budget)
        target = torch.where(link & chosen[root], root, -1)
        return Choice(size, chosen, blend=blend_of(chosen, target, mean_weights(chosen, target)))


def _best_matches(clip: Clip) -> tuple[Tensor, Tensor]:
    """The most similar token of the previous frame for every token, of equal ones the first: (n,) int64, −1 where there
    is none, and (n,) float64 its cosine, −2 where there is none.
    """
    match = torch.full((len(clip),), -1, dtype=torch.int64, device=clip.coords.device)
    cosine = torch.full((len(clip),), -2.0, dtype=torch.float64, device=clip.coords.device)
    for before, now in pairwise(clip.frames):
        if int(clip.coords[now.start, 0]) == int(clip.coords[before.start, 0]) + 1:
            cosine[now], place = cosines(clip.features[now], clip.features[before]).max(1)
            match[now] = place + before.start
    return match, cosine
