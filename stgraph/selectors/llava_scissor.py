"""LLaVA-Scissor: connected components of similar tokens, in each frame and then over all frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..community.components import torch_components
from ..errors import check_number
from ..kernels import snap
from .per_video import Choice, Clip, VideoSelector, first, mean_weights, on_grid, unit_rows

BLOCK = 1 << 22
"""Similarities held at a time: 32 MB of float64."""


@dataclass(frozen=True, kw_only=True)
class LLaVAScissor(VideoSelector):
    """LLaVA-Scissor (Sun et al., 2025): semantic connected components, first of every frame, then of the video.

    Followed: tokens of a frame with cos > τ are joined, anywhere in it, and each component becomes the mean of its
    tokens; the components of all frames are joined in the same way by their means. The tokens of each component of the
    video are merged into one.

    Departures: a component is represented by the mean of its unit vectors, and becomes the plain mean of all its
    tokens, at the place of the first. Where components are more than the budget, those of the most tokens stay;
    where they are fewer, the tokens least similar to the first of their component stay as well, unmerged. Similarities
    are taken in blocks.

    Attributes:
        similarity_threshold: τ in [−1, 1].
    """

    similarity_threshold: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("similarity_threshold", self.similarity_threshold, at_least=-1, at_most=1)

    def choose(self, clip: Clip) -> Choice:
        """Size of its component for its first token; for the others 1 − cosine to that one, less 2."""
        threshold = on_grid(self.similarity_threshold)
        inside = torch.cat([similar_components(clip.unit[f], threshold) + f.start for f in clip.frames])
        heads, label = inside.unique(return_inverse=True)
        mean = torch.zeros(len(heads), clip.unit.shape[1], device=label.device).index_add_(0, label, clip.unit)
        head = heads[similar_components(unit_rows(mean), threshold)[label]]
        is_head = head == torch.arange(len(head), device=head.device)
        size = torch.bincount(head, minlength=len(head))
        to_head = snap((clip.unit * clip.unit[head]).sum(1))
        score = torch.where(is_head, size.double(), -1 - to_head)
        chosen = first(score, clip.budget)
        target = torch.where(~chosen & chosen[head], head, -1)
        return Choice(score, chosen, target, mean_weights(chosen, target))


def similar_components(unit: Tensor, threshold: float) -> Tensor:
    """Smallest member of the component of each of n unit vectors (n, d), joined where cos > threshold: (n,) int64.

    Blocks of rows are joined with all that came before, so that memory stays linear.
    """
    label = torch.arange(len(unit), device=unit.device)
    step = max(1, BLOCK // len(unit))
    for start in range(0, len(unit), step):
        block = snap(unit[start : start + step] @ unit[: start + step].T)
        earlier, later = (block > threshold).nonzero().T
        ends = torch.stack([label[earlier + start], label[later]])
        label = torch_components(len(unit), ends)[label]
    return label
