"""Video: sampled frames of a file."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Video:
    """Frames of a video and when they are shown.

    Attributes:
        frames: (T, 3, H, W) uint8 RGB.
        timestamps: (T,) float64, seconds from the start of the file.
        source: the path it was read from, or None.
        duration: seconds of the whole file, or None when unknown.
        notes: sentences about what a reader did that a user should know (fewer frames than asked for, ...).
    """

    frames: Tensor
    timestamps: Tensor
    source: str | None = None
    duration: float | None = None
    notes: tuple[str, ...] = ()
