"""Writing frames as an H.264 file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError, check_number, readable


def write_video(
    path: str | Path, frames: Tensor | Iterable[Tensor], fps: float, *, quality: int = 18, preset: str = "medium"
) -> None:
    """Write an H.264 MP4 that every player reads (yuv420p).

    Odd heights and widths grow by one row or column, a copy of the last: 4:2:0 colour needs even sizes. The same
    frames give the same file. It appears under its name only when it is complete.

    Args:
        path: ends in ``.mp4``.
        frames: (T, 3, H, W) uint8 RGB, or an iterable of (3, H, W) uint8, which is never held as a whole.
        fps: frames per second.
        quality: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's speed preset.

    Raises:
        StgraphError: no frames, frames of different shape or dtype, or a folder that cannot be written.
    """
    import av

    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise StgraphError(f"write_video writes MP4, but the path is {readable(path)}; let it end in .mp4")
    check_number("fps", fps, above=0)
    check_number("quality", quality, at_least=0, at_most=51, integer=True)
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise StgraphError("write_video needs at least one frame")
    # a short temporary name, so that every valid file name can be written
    partial = path.with_name(f".{uuid4().hex}.part")
    try:
        with av.open(f"file:{partial}", "w", format="mp4") as container:
            rate = Fraction(fps).limit_denominator(1001)
            # Without these two options the output of x264 depends on the timing of its threads.
            options = {"crf": str(quality), "preset": preset, "rc-lookahead": "0"}
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.thread_count = 1
            stream.height, stream.width = (n + n % 2 for n in first.shape[-2:])
            stream.pix_fmt = "yuv420p"
            for number, frame in enumerate(chain((first,), rest)):
                if frame.ndim != 3 or frame.shape != first.shape or frame.shape[0] != 3 or frame.dtype != torch.uint8:
                    raise StgraphError(
                        f"frames must be (3, H, W) uint8 of one size, got {tuple(frame.shape)} {frame.dtype} for frame "
                        f"{number} after {tuple(first.shape)}"
                    )
                image = np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())
                even = np.pad(image, [(0, n % 2) for n in image.shape[:2]] + [(0, 0)], mode="edge")
                picture = av.VideoFrame.from_ndarray(even, format="rgb24")
                picture.pts = number
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        partial.replace(path)
    except (OSError, av.error.FFmpegError) as error:
        reason = error.strerror or error
        raise StgraphError(
            f"{readable(path)} cannot be written ({reason}); check the folder and the free space"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk, this check already raises an error
            partial.unlink()
