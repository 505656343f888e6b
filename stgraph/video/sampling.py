"""Which frames of a video are sampled: by number, by rate or by stride, inside a span of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import StgraphError, check_number, readable

DEFAULT_FRAMES = 64


#: Seconds by which a stored display time may be off: Matroska and Flash keep whole milliseconds.
ROUNDING = 5e-4


def choose_frames(
    times: np.ndarray,
    *,
    end: float,
    start: float = 0.0,
    frames: int | None = None,
    fps: float | None = None,
    stride: int | None = None,
) -> np.ndarray:
    """Which frames are on screen at the sampled times.

    A frame is on screen from its own time to that of the next one, whatever the rate. At most one of ``frames``,
    ``fps`` and ``stride`` is given; every frame is chosen when none is.

    Args:
        times: (F,) float64, strictly increasing display times in seconds.
        end: sample times are before this second; the last frame is on screen until then.
        start: sample times begin at this second.
        frames: number of sample times, evenly spaced from ``start`` to the last frame before ``end``, both included.
        fps: sample times ``start``, ``start + 1/fps``, ...
        stride: every stride-th frame, whatever its time.

    Returns:
        int64 frame numbers, strictly increasing: a frame that is on screen at several sample times is taken once.
    """
    # Above 1000 frames per second, half a millisecond is longer than a frame.
    rounding = min(ROUNDING, float(np.diff(times).min()) / 2) if len(times) > 1 else ROUNDING
    first = max(int(_on_screen(times, start, rounding)), 0)
    last = max(int(np.searchsorted(times, end - rounding)) - 1, first)
    if stride is not None:
        return np.arange(first, last + 1, stride)
    begin = max(start, float(times[first]))
    if fps is not None:
        # Sample k falls to the frame whose time is the last one before it: count samples per frame, never list them.
        edges = np.append(times[first : last + 1], end)
        sample = np.ceil((edges - rounding - begin) * fps).clip(min=0)
        return first + np.flatnonzero(np.diff(sample) > 0)
    if frames is None or frames > last - first:
        return np.arange(first, last + 1)
    return np.unique(_on_screen(times, np.linspace(begin, times[last], frames), rounding))


def _on_screen(times: np.ndarray, seconds: float | np.ndarray, rounding: float) -> np.ndarray:
    number: np.ndarray = np.searchsorted(times, np.asarray(seconds) + rounding, side="right") - 1
    return number


def time_window(
    path: Path, start: float | None, end: float | None, duration: float, longest: float
) -> tuple[float, float]:
    """The seconds ``[begin, stop)`` to sample from, checked against the length of the video."""
    if start is not None:
        check_number("start", start, at_least=0)
    if end is not None:
        check_number("end", end, above=0)
    begin, stop = start or 0.0, duration if end is None else end
    if start is not None and end is not None and start >= end:
        raise StgraphError(f"start must be before end, got {start:g} s and {end:g} s")
    if begin >= duration or stop > longest + ROUNDING:
        name, value = ("start", begin) if begin >= duration else ("end", stop)
        raise StgraphError(
            f"{name} is {value:g} s, but {readable(path)} lasts {duration:.3f} s; choose a time inside it"
        )
    return begin, stop
