"""Descriptor: the built-in encoder, colour and texture under a Gaussian kernel. It needs no weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import StgraphError, check_number
from ..signals import Signals
from ..tokens import VideoTokens
from ..video import Video
from .base import Encoded, Encoder

SAMPLES = 8
"""Samples along each side of a patch: a frame is first resized to 8 × 8 samples per patch, whatever its resolution."""

TEXTURE_FLOOR = 0.005
"""Gradient added before the square root, about that of sensor noise after resizing: below it, texture is not seen."""

NUM_MEASUREMENTS = 7


@dataclass(frozen=True)
class Descriptor(Encoder):
    """Patch descriptor whose cosine similarity is a Gaussian kernel of colour and texture differences.

    Every patch is measured by seven numbers under a smooth window of twice its size: its colour (luminance and
    two opponent colours) and the square root of its gradient energy in four orientations. Random Fourier features turn
    these into a unit vector, such that the cosine of two tokens estimates ``exp(-distance² / (2 · bandwidth²))``: close
    to 1 for the same content under noise or recompression, close to 0 for different content, as the fixed thresholds of
    ST-SimDiff (0.8 and 0.2) want it. It knows nothing of meaning. docs/descriptor.md has the formulas, the
    measurements behind the constants, and the limits.

    A token depends on the pixels of its own frame only, and all sums are exact, so the same frame gives the same
    vectors bit for bit in any clip and with any number of threads. No signals: it has no attention to report.

    Source: opponent colours, Ohta et al. (1980); random Fourier features, Rahimi and Recht (NeurIPS 2007).

    Attributes:
        tokens_per_frame: wanted number of tokens of a frame, ≥ 1. The grid is the one of near-square patches that comes
            closest: 14 × 14 for a square video at the default 196, 10 × 20 for 1280×720, 9 × 22 for 640×272.
        dimension: d, length of a token's vector, even, ≥ 2. The cosine differs from the kernel with a standard error of at
            most ``1 / √d``.
        bandwidth: distance at which similarity has fallen to ``exp(-1/2)`` = 0.61, > 0. Black and white are √3 apart.
        seed: of the random frequencies, ≥ 0.
    """

    tokens_per_frame: int = 196
    dimension: int = 256
    bandwidth: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("tokens_per_frame", self.tokens_per_frame, at_least=1, integer=True)
        check_number("dimension", self.dimension, at_least=2, integer=True)
        check_number("bandwidth", self.bandwidth, above=0)
        check_number("seed", self.seed, at_least=0, below=2**32, integer=True)
        if self.dimension % 2:
            raise StgraphError(f"dimension must be even, as it holds cosines and sines; got {self.dimension}")

    def __call__(self, video: Video) -> Encoded:
        """Tokens (T·h·w, d) float32 of unit length for the T frames of ``video``; frames of any size ≥ 1 × 1.

        Raises:
            StgraphError: the frames are not (T, 3, H, W) uint8 with at least one frame and one pixel.
        """
        frames = video.frames
        if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8 or frames.numel() == 0:
            raise StgraphError(
                "the descriptor needs frames of shape (T, 3, H, W) in uint8 with T, H and W at least 1, got "
                f"{tuple(frames.shape)} {str(frames.dtype).removeprefix('torch.')}"
            )
        rows, columns = self.grid(*frames.shape[2:])
        frequencies = self._frequencies()
        features = torch.empty(len(frames), rows, columns, self.dimension)
        for frame, out in zip(frames, features, strict=True):
            phase = _exact_product(measure(frame.cpu(), rows, columns), frequencies)
            out[..., 0::2] = phase.cos()
            out[..., 1::2] = phase.sin()
        features *= math.sqrt(2 / self.dimension)
        return Encoded(VideoTokens.from_grid(features, timestamps=(video.timestamps,)), Signals())

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens for frames of ``height`` × ``width`` pixels."""
        rows = round(math.sqrt(self.tokens_per_frame * height / width))
        rows = min(max(rows, 1), self.tokens_per_frame)
        return rows, round(self.tokens_per_frame / rows)

    def _frequencies(self) -> Tensor:
        # RandomState, because NumPy promises never to change its stream; other generators may change between releases.
        normal = np.random.RandomState(self.seed).standard_normal((NUM_MEASUREMENTS, self.dimension // 2))
        return torch.from_numpy(normal / self.bandwidth)


def measure(frame: Tensor, rows: int, columns: int) -> Tensor:
    """Colour and texture of every patch.

    Args:
        frame: (3, H, W) uint8 RGB.
        rows: number of patches down the frame.
        columns: number of patches across it.

    Returns:
        (rows, columns, 7) float64: luminance, red–blue and green–magenta, in units where black and white are √3 apart,
        and the square root of the mean absolute luminance gradient along →, ↘, ↓ and ↙.
    """
    size = (rows * SAMPLES, columns * SAMPLES)
    # The uint8 kernel of this resize computes in integers, hence exactly.
    samples = F.interpolate(frame[None], size=size, mode="bilinear", antialias=True)[0].double()
    red, green, blue = samples
    luminance = red + green + blue
    padded = F.pad(luminance[None], (1, 1, 1, 1), mode="replicate")[0]
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    planes = [luminance, red - blue, 2 * green - red - blue, across, across + down, down, across - down]
    means = _window_means(torch.stack(planes[:3] + [plane.abs() for plane in planes[3:]])) / 255
    colour = means[:3] / torch.tensor([math.sqrt(3), 1, math.sqrt(3)], dtype=torch.float64)[:, None, None]
    gradient = means[3:] / (2 * torch.tensor([3, 6, 3, 6], dtype=torch.float64).sqrt()[:, None, None])
    texture = (2 * (gradient + TEXTURE_FLOOR)).sqrt()
    return torch.cat([colour, texture]).permute(1, 2, 0)


def _window_means(planes: Tensor) -> Tensor:
    """Means of (C, rows · 8, columns · 8) under a raised-cosine window of two patches around each patch."""
    angle = (torch.arange(2 * SAMPLES, dtype=torch.float64) + 0.5) * (math.pi / SAMPLES)
    # Whole numbers: with the whole numbers of the planes, the sums are exact in float64 in whatever order they run.
    weights = (128 * (1 - angle.cos())).round()
    padded = F.pad(planes[None], (SAMPLES // 2,) * 4, mode="replicate")[0]
    sums = padded.unfold(2, 2 * SAMPLES, SAMPLES) @ weights
    return sums.unfold(1, 2 * SAMPLES, SAMPLES) @ weights / weights.sum() ** 2


def _exact_product(values: Tensor, frequencies: Tensor) -> Tensor:
    """``values @ frequencies`` in fixed point, so that no thread count or matrix library changes a bit of it."""
    unit = 2.0**20
    return (values * unit).round() @ (frequencies * unit).round() / unit**2
