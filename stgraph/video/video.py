"""The value :class:`Video`: sampled frames and when they are shown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import StgraphError


@dataclass(frozen=True, eq=False)
class Video:
    """Frames of a video and when they are shown.

    Attributes:
        frames: (T, 3, H, W) uint8 RGB, T ≥ 1.
        timestamps: (T,) float64, seconds from the first frame of the file's video stream, strictly increasing.
        source: the path it was read from, or None.
        duration: seconds of the whole file, or None when unknown.
        notes: sentences about what a reader did that a user should know (fewer frames than asked for, ...).
        stored_size: (height, width) of the frames in the file, turned upright; None when unknown. ``frames`` may have
            been scaled.

    Raises:
        StgraphError: shapes, dtypes or an order of timestamps that do not fit together.
    """

    frames: Tensor
    timestamps: Tensor
    source: str | None = None
    duration: float | None = None
    notes: tuple[str, ...] = ()
    stored_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.frames.shape), self.frames.dtype
        if len(shape) != 4 or shape[1] != 3 or min(shape) < 1 or dtype != torch.uint8:
            raise StgraphError(f"frames must be (T, 3, H, W) uint8 with at least one frame, got {shape} {dtype}")
        if tuple(self.timestamps.shape) != shape[:1] or self.timestamps.dtype != torch.float64:
            raise StgraphError(
                f"timestamps must be ({shape[0]},) float64, one time in seconds per frame, got "
                f"{tuple(self.timestamps.shape)} {self.timestamps.dtype}"
            )
        if not bool(self.timestamps.isfinite().all()) or bool((self.timestamps.diff() <= 0).any()):
            raise StgraphError("timestamps must be finite and strictly increasing")

    def __len__(self) -> int:
        return self.frames.shape[0]

    def __repr__(self) -> str:
        span = f"{float(self.timestamps[0]):.2f}–{float(self.timestamps[-1]):.2f} s"
        return f"Video({len(self)} frames of {self.height}×{self.width}, {span}, source={self.source!r})"

    @property
    def height(self) -> int:
        """Rows of a frame."""
        return self.frames.shape[2]

    @property
    def width(self) -> int:
        """Columns of a frame."""
        return self.frames.shape[3]
