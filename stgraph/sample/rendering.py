"""Sample clips: the clip of the demo, and clips with one kind of event each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError, check_choice, check_number
from ..video import Video, write_video
from .effects import Effect, Stage, camera_pan, cut, fade, flash, light_drift, motion, texture_change
from .events import KINDS, Kind, SampleEvent, save_events
from .painting import DUSK, LAKE, NIGHT, Picture, Sprite, landscape, paint_balloon, paint_boat, sprite


class Sample(NamedTuple):
    """A rendered clip: the video file, the file of its events, and the events."""

    path: Path
    events_path: Path
    events: tuple[SampleEvent, ...]


def _shoot(background: Picture, effects: Sequence[Effect], frames: int, seed: int) -> Iterator[Tensor]:
    """Paint frame after frame, (3, H, W) uint8, with the slight noise of a camera."""
    for n in range(frames):
        picture = background
        for effect in effects:
            picture = effect.paint(picture, n)
        grain = np.random.default_rng((seed, n)).standard_normal(picture.shape, dtype=np.float32)
        pixels = (picture * 255 + grain * 1.5 + 0.5).clip(0, 255).astype(np.uint8)
        yield torch.from_numpy(pixels).permute(2, 0, 1)


def render_sample(
    path: str | Path | None = None, *, size: tuple[int, int] = (256, 448), fps: float = 24, seed: int = 0
) -> Sample:
    """Write a clip of 10.5 seconds in which a little of everything happens.

    A still evening; a hard cut to a lake (2 s); a balloon drifts in and stays (2.8 to 4.2 s); three frames of lightning
    in the sky (5 s; one of them is among 64 sampled frames); a boat sails across (5.6 to 7.4 s); the day fades to night
    (7.8 to 9.8 s).

    Args:
        path: ends in ``.mp4``; ``sample.mp4`` in the current folder when None. The events go beside it,
            ``sample.events.json``.
        size: (height, width) in pixels, even, at least 64.
        fps: frames per second, at least 8.
        seed: of the landscapes and the camera noise.

    Raises:
        StgraphError: arguments out of range, or a folder that cannot be written.
    """
    stage = _stage(size, fps, seed)
    if stage.height % 2 or stage.width % 2:
        raise StgraphError(f"size must be even in both directions for an H.264 file, got {size}")
    path = Path("sample.mp4" if path is None else path)
    evening = landscape(3 * seed + 1, stage.size, DUSK, water=False)
    lake = landscape(3 * seed + 2, stage.size, LAKE, water=True)
    night = landscape(3 * seed + 3, stage.size, NIGHT, water=True, stars=True)
    effects = (
        cut(stage, 2.0, lake),
        motion(stage, "moving_object", _boat(stage), (5.6, 7.4), ((0.56, 0.06), (0.60, 0.50)), visible=2.0),
        motion(stage, "enter", _balloon(stage), (2.8, 4.2), ((0.16, 1.02), (0.12, 0.74)), visible=2.8),
        flash(stage, 4.96, 3, stage.part(0, 0, 0.55, 1)),
        fade(stage, 7.8, 9.8, night),
    )
    write_video(path, _shoot(evening, effects, stage.frame(10.5), seed), fps)
    events = tuple(sorted((effect.event for effect in effects), key=lambda event: event.start_seconds))
    events_path = path.with_suffix(".events.json")
    save_events(events_path, events)
    return Sample(path, events_path, events)


class EventClip(NamedTuple):
    """A clip in memory and what happens in it (nothing, for ``"noise"``)."""

    video: Video
    events: tuple[SampleEvent, ...]


def render_events(
    kind: Kind, *, size: tuple[int, int] = (256, 448), fps: float = 24, seconds: float = 4.0, seed: int = 0
) -> EventClip:
    """Paint a clip in which one kind of event happens once, in its middle half, over an otherwise still scene.

    Args:
        kind: one of ``KINDS``.
        size: (height, width) in pixels, at least 64.
        fps: frames per second, at least 8.
        seconds: length of the clip, at least 1.
        seed: of the landscapes and the camera noise.

    Returns:
        All frames with their timestamps, and the events.

    Raises:
        StgraphError: arguments out of range.
    """
    check_choice("kind", kind, KINDS)
    check_number("seconds", seconds, at_least=1)
    stage = _stage(size, fps, seed)
    scene = partial(landscape, 3 * seed + 2, palette=LAKE, water=True)
    start, middle, end = (seconds * share for share in (0.25, 0.5, 0.75))
    background = scene(stage.size)
    build: dict[str, Callable[[], Effect]] = {
        "cut": lambda: cut(stage, middle, landscape(3 * seed + 1, stage.size, DUSK, water=False)),
        "flash": lambda: flash(stage, middle, 2, stage.part(0, 0, 0.55, 1)),
        "enter": lambda: motion(stage, "enter", _balloon(stage), (start, end), ((0.16, 1.0), (0.12, 0.6)), start),
        "fade": lambda: fade(stage, start, end, landscape(3 * seed + 3, stage.size, NIGHT, water=True, stars=True)),
        "light_drift": lambda: light_drift(stage, start, end),
        "texture_change": lambda: texture_change(stage, middle, stage.part(0.5, 0.25, 1, 0.75), seed),
        "moving_object": lambda: motion(
            stage, "moving_object", _boat(stage), (start, end), ((0.56, 0.06), (0.60, 0.7)), 0.0
        ),
        "camera_pan": lambda: camera_pan(stage, start, end, scene((stage.height, stage.width * 3 // 2))),
    }
    effects = [build[kind]()] if kind in build else []
    frames = torch.stack(list(_shoot(background, effects, stage.frame(seconds), seed)))
    timestamps = torch.arange(len(frames), dtype=torch.float64) / fps
    return EventClip(Video(frames, timestamps, duration=seconds), tuple(effect.event for effect in effects))


def _stage(size: tuple[int, int], fps: float, seed: int) -> Stage:
    for name, value in zip(("height", "width"), size, strict=True):
        check_number(name, value, at_least=64, integer=True)
    check_number("fps", fps, at_least=8)
    check_number("seed", seed, at_least=0, integer=True)
    return Stage(*size, fps)


def _balloon(stage: Stage) -> Sprite:
    return sprite(round(0.36 * stage.height), round(0.29 * stage.height), paint_balloon)


def _boat(stage: Stage) -> Sprite:
    return sprite(round(0.25 * stage.height), round(0.22 * stage.height), paint_boat)
