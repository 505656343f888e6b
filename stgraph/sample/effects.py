"""What can happen in a sample clip: how each event changes a picture, and its ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from .events import Box, Kind, SampleEvent
from .painting import Picture, Sprite, mix, place_sprite, rgb, smooth_noise


class Effect(NamedTuple):
    """Something that happens: how it changes the picture of frame n, and its ground truth."""

    paint: Callable[[Picture, int], Picture]
    event: SampleEvent


class Stage(NamedTuple):
    """What all effects of a clip share."""

    height: int
    width: int
    fps: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        return self.height, self.width

    @property
    def whole(self) -> Box:
        """The box of the whole frame."""
        return Box(0, 0, self.height, self.width)

    def part(self, y0: float, x0: float, y1: float, x1: float) -> Box:
        """A box given in shares of the frame."""
        return Box(*(float(round(n)) for n in (y0 * self.height, x0 * self.width, y1 * self.height, x1 * self.width)))

    def frame(self, seconds: float) -> int:
        """The number of the frame that is nearest to a time."""
        return round(seconds * self.fps)

    def event(self, kind: Kind, first: int, last: int, boxes: Sequence[Box], since: int | None = None) -> SampleEvent:
        """An event from frame ``first`` up to ``last``, with one box per frame from frame ``since`` on."""
        origin = first if since is None else since
        track = tuple(((origin + i) / self.fps, box) for i, box in enumerate(boxes))
        return SampleEvent(kind, first / self.fps, last / self.fps, track)


def cut(stage: Stage, at: float, other: Picture) -> Effect:
    """Another picture from ``at`` seconds on."""
    first = stage.frame(at)
    return Effect(lambda p, n: other if n >= first else p, stage.event("cut", first, first + 1, [stage.whole]))


def flash(stage: Stage, at: float, frames: int, box: Box) -> Effect:
    """White light in ``box`` for a few frames."""
    first = stage.frame(at)

    def paint(picture: Picture, n: int) -> Picture:
        return _inside(picture, box, lambda part: mix(part, (1, 1, 1), 0.8)) if first <= n < first + frames else picture

    return Effect(paint, stage.event("flash", first, first + frames, [box]))


def fade(stage: Stage, start: float, end: float, other: Picture) -> Effect:
    """A slow change into another picture."""
    event = stage.event("fade", stage.frame(start), stage.frame(end), [stage.whole])
    return Effect(lambda p, n: mix(p, other, event.level_at(n / stage.fps)), event)


def light_drift(stage: Stage, start: float, end: float) -> Effect:
    """Daylight that slowly becomes evening light."""
    event = stage.event("light_drift", stage.frame(start), stage.frame(end), [stage.whole])
    evening = rgb([0.55, 0.42, 0.38])
    return Effect(lambda p, n: p * (1 - event.level_at(n / stage.fps) * (1 - evening)), event)


def texture_change(stage: Stage, at: float, box: Box, seed: int) -> Effect:
    """The same mean rgb, another texture."""
    first = stage.frame(at)
    relief = smooth_noise(np.random.default_rng(seed), int(box.y1 - box.y0), int(box.x1 - box.x0), 12, 3)[..., None]

    def retexture(part: Picture) -> Picture:
        changed: Picture = part.mean((0, 1)) * (1 + 0.35 * relief)
        return changed

    def paint(picture: Picture, n: int) -> Picture:
        return _inside(picture, box, retexture) if n >= first else picture

    return Effect(paint, stage.event("texture_change", first, first + 1, [box]))


def camera_pan(stage: Stage, start: float, end: float, wide: Picture) -> Effect:
    """The camera moves over a picture that is wider than the frame."""
    first, last = stage.frame(start), stage.frame(end)
    room = wide.shape[1] - stage.width

    def window(n: int) -> Box:
        left = round(room * _ease((n - first) / (last - first)))
        return Box(0, left, stage.height, left + stage.width)

    def paint(_: Picture, n: int) -> Picture:
        box = window(n)
        return wide[:, int(box.x0) : int(box.x1)]

    return Effect(paint, stage.event("camera_pan", first, last, [window(n) for n in range(last + 1)], since=0))


def motion(
    stage: Stage,
    kind: Literal["enter", "moving_object"],
    sprite: Sprite,
    span: tuple[float, float],
    path: tuple[tuple[float, float], tuple[float, float]],
    visible: float,
) -> Effect:
    """The sprite glides between two places (top, left in shares of the frame) and stays; seen from ``visible`` on."""
    first, last, since = stage.frame(span[0]), stage.frame(span[1]), stage.frame(visible)

    def place(n: int) -> tuple[int, int]:
        share = _ease((n - first) / (last - first))
        (top, left), (bottom, right) = path
        return round(stage.height * (top + (bottom - top) * share)), round(
            stage.width * (left + (right - left) * share)
        )

    def box(n: int) -> Box:
        (y, x), (height, width) = place(n), sprite.size
        limit = stage.whole
        y0, x0 = min(max(y, 0), limit.y1), min(max(x, 0), limit.x1)
        return Box(y0, x0, max(min(y + height, limit.y1), y0), max(min(x + width, limit.x1), x0))

    def paint(picture: Picture, n: int) -> Picture:
        return place_sprite(picture, sprite, *place(n)) if n >= since else picture

    return Effect(paint, stage.event(kind, first, last, [box(n) for n in range(since, last + 1)], since))


def _ease(share: float) -> float:
    """0 to 1 with a soft start and a soft landing."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _inside(picture: Picture, box: Box, change: Callable[[Picture], Picture]) -> Picture:
    rows, columns = slice(int(box.y0), int(box.y1)), slice(int(box.x0), int(box.x1))
    changed = picture.copy()
    changed[rows, columns] = change(picture[rows, columns])
    return changed
