"""ForestPrune: trees through time, pruned by the role of their tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import check_number
from .per_video import Choice, Clip, VideoSelector, on_grid, previous_matches


@dataclass(frozen=True, kw_only=True)
class ForestPrune(VideoSelector):
    """ForestPrune (2026): the tokens of a video are a forest, and are pruned by their role and depth in it.

    Followed: a token hangs itself below its best match in the previous frame within a bounded distance if their cosine
    reaches the threshold. Roots come before inner tokens, those before leaves; of roots those of the tallest trees
    first, of the others those nearest their root.

    Departures: this order, of which our source says only that it goes by depth and role; ties to the smaller index.
    Nothing is merged.

    Attributes:
        similarity_threshold: cosine that a link must reach, in [−1, 1].
        radius: largest distance of a match in rows and in columns.
    """

    similarity_threshold: float = 0.9
    radius: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)
        check_number("radius", self.radius, at_least=0, integer=True)

    def choose(self, clip: Clip) -> Choice:
        """Role (2 root, 1 inner, 0 leaf) plus a part below 1 by height or depth."""
        match, similarity = previous_matches(clip, self.radius)
        child = (match >= 0) & (similarity >= on_grid(self.similarity_threshold))
        depth, height = torch.zeros(2, len(clip), dtype=torch.int64, device=match.device)
        for frame in clip.frames:
            depth[frame] = torch.where(child[frame], depth[match[frame].clamp(min=0)] + 1, 0)
        for frame in reversed(clip.frames):
            parent, tall = match[frame][child[frame]], height[frame][child[frame]] + 1
            height.scatter_reduce_(0, parent, tall, "amax")
        role = torch.where(child, (height > 0).double(), 2.0)
        tallest = len(clip.frames) + 1
        return Choice(role + torch.where(child, 1 - depth / tallest, height / tallest))
