"""Small video files for the tests, in every container and with every oddity that the reader must get right.

Frame n shows the number n: as six black or white blocks in the upper half, so that it survives any codec and any pixel
format, and the lower left corner is bright, so that a turned picture can be told from an upright one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

BITS = 8


def numbered_frame(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(height, width, 3) uint8 that shows ``number`` in binary, most significant bit left."""
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    edges = np.linspace(0, width, BITS + 1).astype(int)
    for bit in range(BITS):
        image[: height // 2, edges[bit] : edges[bit + 1]] = 235 if number >> (BITS - 1 - bit) & 1 else 20
    image[-height // 4 :, : width // 4] = 235
    return image


def numbers(frames: torch.Tensor) -> list[int]:
    """The numbers that decoded frames (T, 3, H, W) show."""
    grey = frames.float().mean(1)
    height, width = grey.shape[1:]
    edges = np.linspace(0, width, BITS + 1)
    centres = ((edges[:-1] + edges[1:]) / 2).astype(int)
    bits = grey[:, height // 4, centres] > 128
    return [int(sum(2 ** (BITS - 1 - i) for i, bit in enumerate(row) if bit)) for row in bits.tolist()]


def write_clip(
    path: Path,
    times: Sequence[int] | int = 50,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (48, 64),
    tick: Fraction = Fraction(1, 25),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    display: tuple[float, bool, bool] | None = None,
    aspect: Fraction | None = None,
    sound: bool = False,
    frames: Iterable[np.ndarray] | None = None,
) -> Path:
    """Write numbered frames at the given times (in ticks; a number stands for that many evenly spaced ones)."""
    times = range(times) if isinstance(times, int) else times
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        if sound:  # the first stream of the file
            speaker = container.add_stream("aac", rate=8000, layout="mono")
        stream = container.add_stream(codec, rate=round(1 / tick), options={"g": "12", **(options or {})})
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = tick
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if display is not None:
            stream.set_display_rotation(*display)
        if sound:
            container.mux(speaker.encode(_silence(len(times) * float(tick))))
        images = (numbered_frame(n, *size) for n in range(len(times))) if frames is None else frames
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            container.mux(speaker.encode(None))
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    with av.open(str(path), "w") as container:
        speaker = container.add_stream("aac", rate=8000, layout="mono")
        container.mux(speaker.encode(_silence(seconds)))
        container.mux(speaker.encode(None))
    return path


def _silence(seconds: float) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, round(8000 * seconds)), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 8000
    frame.pts = 0
    return frame


def cut_short(path: Path, share: float = 0.6) -> Path:
    """A copy of the file that ends early."""
    data = path.read_bytes()
    short = path.with_stem(path.stem + "-short")
    short.write_bytes(data[: int(len(data) * share)])
    return short
