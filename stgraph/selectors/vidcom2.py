"""VidCom2: more tokens for distinctive frames, and in them the distinctive tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels import snap
from .parts import first, unit_rows
from .per_video import Choice, Clip, VideoSelector

WIDTHS = tuple(2.0**power for power in range(-3, 2))
"""α of the Gaussian similarities, 2⁻³ to 2¹."""

TEMPERATURE = 0.01
"""Of the softmax over the frames."""


@dataclass(frozen=True, kw_only=True)
class VidCom2(VideoSelector):
    """VidCom2 (Liu et al., EMNLP 2025): the distinctiveness of frames sets how many tokens stay, and that of tokens
    which ones.

    Followed: over the ⌊d / 2⌋ channels with the lowest variance, the distinctness of a token from a mean m is
    −Σ_α exp(−‖x̂ − m‖² / 2α), α = 2⁻³ … 2¹. A frame is as distinctive from the video's mean as its tokens on average,
    and gets the share r·(1 + softmax(distinctness / 0.01) − mean). Its tokens most distinct from the means of the video
    and of the frame together stay.

    Every frame keeps at least one token. ``count="published"``: max(1, round(share·n)) of each frame.

    Departures: ``count="exact"``: shares become whole numbers that add up to ⌈r·N⌉ by largest remainders, and a frame
    that would need more tokens than it has gives the rest to others; where there are fewer tokens to keep than frames,
    some frames keep none. Newline tokens follow ``separators``, where theirs keeps all of LLaVA-Video's.
    """

    def choose(self, clip: Clip) -> Choice:
        """Distinctness from both means, and the most distinct tokens of every frame."""
        x = clip.features.float()
        x = x / x.abs().max().clamp_(min=torch.finfo(torch.float32).tiny)  # variances of any magnitude stay finite
        calm = torch.sort(x.var(0, unbiased=False), stable=True).indices[: max(1, x.shape[1] // 2)]
        unit = unit_rows(x[:, calm.sort().values])
        means = [unit[frame].mean(0) for frame in clip.frames]
        from_video = distinctness(unit, unit.mean(0))
        from_frame = torch.cat([distinctness(unit[f], mean) for f, mean in zip(clip.frames, means, strict=True)])
        frames = torch.stack([from_video[frame].mean() for frame in clip.frames])
        weight = (snap(frames) / TEMPERATURE).softmax(0)
        sizes = torch.tensor(clip.sizes, dtype=torch.float32)
        share = (clip.retention * (1 + weight - weight.mean())).to(torch.float32).clamp(max=1)
        wanted = share.cpu() * sizes
        score = snap(from_video + from_frame)
        if self.exact:
            least = 1 if clip.budget >= len(clip.frames) else 0
            counts = apportion(wanted.tolist(), clip.sizes, clip.budget, least=least)
        else:
            counts = [max(1, min(n, round(want))) for n, want in zip(clip.sizes, wanted.tolist(), strict=True)]
        chosen = [first(score[frame], count) for frame, count in zip(clip.frames, counts, strict=True)]
        return Choice(score, torch.cat(chosen))


def distinctness(unit: Tensor, mean: Tensor) -> Tensor:
    """(n,) float64, −Σ_α exp(−‖x̂ − m‖² / 2α) of (n, d) unit vectors and a mean (d,), in [−5, 0]."""
    squared = (unit - mean).square().sum(1).double()
    return -torch.stack([(-squared / (2 * width)).exp() for width in WIDTHS]).sum(0)


def apportion(wanted: list[float], capacity: list[int], total: int, *, least: int = 0) -> list[int]:
    """Whole numbers near ``wanted``, none below ``least`` or above its capacity, that add up to ``total``.

    First the whole parts, then one by one where most is missing (or, beyond the total, where most is too much), ties to
    the first.
    """
    given = [min(max(int(want), least), size) for want, size in zip(wanted, capacity, strict=True)]
    index = range(len(given))
    while sum(given) < total:
        given[max((k for k in index if given[k] < capacity[k]), key=lambda k: wanted[k] - given[k])] += 1
    while sum(given) > total:
        given[max((k for k in index if given[k] > least), key=lambda k: given[k] - wanted[k])] -= 1
    return given
