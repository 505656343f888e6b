"""Descriptor: the built-in encoder, colour and texture under a Gaussian kernel. It needs no weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
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

MEASUREMENTS = 7
"""Three of colour and four of texture."""

Array = npt.NDArray[np.float64]


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
        tokens_per_frame: wanted number of tokens of a frame, 1 to 16384. The grid has near-square patches and about as
            many: 14 × 14 for a square video at the default 196, 10 × 20 for 1280×720, 9 × 22 for 640×272.
        dimension: d, length of a token's vector, even, 2 to 16384. The cosine misses the kernel by a standard error of
            at most ``1 / √d``.
        bandwidth: distance at which similarity has fallen to ``exp(-1/2)`` = 0.61, from 0.01 to 10; black and white are
            √3 apart.
        seed: of the random frequencies, ≥ 0.
    """

    tokens_per_frame: int = 196
    dimension: int = 256
    bandwidth: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("tokens_per_frame", self.tokens_per_frame, at_least=1, at_most=2**14, integer=True)
        check_number("dimension", self.dimension, at_least=2, at_most=2**14, integer=True)
        check_number("bandwidth", self.bandwidth, at_least=0.01, at_most=10)
        check_number("seed", self.seed, at_least=0, below=2**32, integer=True)
        if self.dimension % 2:
            raise StgraphError(f"dimension must be even, as it holds cosines and sines; got {self.dimension}")

    def __call__(self, video: Video) -> Encoded:
        """Tokens (T·h·w, d) float32 of unit length, for frames of any size."""
        rows, columns = self.grid(video.height, video.width)
        frequencies = self._frequencies()
        scale = math.sqrt(2 / self.dimension)
        features = np.empty((len(video), rows, columns, self.dimension), dtype=np.float32)
        for frame, out in zip(video.frames, features, strict=True):
            phase = _fixed_point_product(measure(frame.cpu(), rows, columns), frequencies)
            out[..., 0::2] = scale * np.cos(phase)
            out[..., 1::2] = scale * np.sin(phase)
        return Encoded(VideoTokens.from_grid(torch.from_numpy(features), timestamps=(video.timestamps,)), Signals())

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tokens for frames of ``height`` × ``width`` pixels."""
        rows = round(math.sqrt(self.tokens_per_frame * height / width))
        rows = min(max(rows, 1), self.tokens_per_frame)
        return rows, round(self.tokens_per_frame / rows)

    def _frequencies(self) -> Array:
        # RandomState, because NumPy promises never to change its stream; other generators may change between releases.
        return np.random.RandomState(self.seed).standard_normal((MEASUREMENTS, self.dimension // 2)) / self.bandwidth


def measure(frame: Tensor, rows: int, columns: int) -> Array:
    """Colour and texture of every patch.

    Args:
        frame: (3, H, W) uint8 RGB on the CPU.
        rows: number of patches down the frame.
        columns: number of patches across it.

    Returns:
        (rows, columns, 7) float64: luminance, red–blue and green–magenta, in units where black and white are √3 apart,
        and the square root of the mean absolute luminance gradient along →, ↘, ↓ and ↗, doubled before the root.
    """
    size = (rows * SAMPLES, columns * SAMPLES)
    # On uint8 this resize computes in integers, hence exactly.
    samples = F.interpolate(frame[None], size=size, mode="bilinear", antialias=True)[0]
    # NumPy from here on: on arrays this small, torch's second thread costs more time than it saves.
    red, green, blue = samples.numpy().astype(np.float64)
    luminance = red + green + blue
    padded = np.pad(luminance, 1, mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    colours = [luminance, red - blue, 2 * green - red - blue]
    gradients = [across, across + down, down, across - down]
    means = _window_means(np.stack(colours + [np.abs(gradient) for gradient in gradients])) / 255
    colour = means[..., :3] / np.sqrt([3, 1, 3])
    gradient = means[..., 3:] / (2 * np.sqrt([3, 6, 3, 6]))
    return np.concatenate([colour, np.sqrt(2 * (gradient + TEXTURE_FLOOR))], axis=-1)


def _window_means(planes: Array) -> Array:
    """(rows, columns, C) means of (C, rows · 8, columns · 8) under a raised cosine, two patches wide, on each patch."""
    angle = (np.arange(2 * SAMPLES) + 0.5) * (math.pi / SAMPLES)
    # The weights are whole numbers, and so are the planes: float64 sums are exact in any order.
    weights = np.round(128 * (1 - np.cos(angle)))
    padded = np.pad(planes, ((0, 0), (SAMPLES // 2,) * 2, (SAMPLES // 2,) * 2), mode="edge")
    down = np.einsum("crxi,i->crx", sliding_window_view(padded, len(weights), 1)[:, ::SAMPLES], weights)
    sums = np.einsum("crxi,i->rxc", sliding_window_view(down, len(weights), 2)[:, :, ::SAMPLES], weights)
    means: Array = sums / weights.sum() ** 2
    return means


def _fixed_point_product(values: Array, frequencies: Array) -> Array:
    """``values @ frequencies`` in fixed point, where the sum is exact: no matrix library changes a bit of it."""
    unit = 2.0**20
    product: Array = np.round(values * unit) @ np.round(frequencies * unit)
    return product / unit**2
