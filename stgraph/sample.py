"""Sample clips with known events: painted landscapes in which something happens at a known time and place.

:func:`render_sample` writes the clip of the demo; :func:`render_events` paints clips with one kind of event each, to
score change detectors kind by kind. Everything is procedural and the same for the same seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from .errors import StgraphError, check_choice, check_number
from .tokens import VideoTokens
from .video import ROUNDING, Video, write_video

Kind = Literal["cut", "flash", "enter", "fade", "light_drift", "texture_change", "moving_object", "camera_pan", "noise"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Picture = np.ndarray  # (H, W, 3) float32 in [0, 1]


class Box(NamedTuple):
    """A rectangle of pixels, ends excluded."""

    y0: float
    x0: float
    y1: float
    x1: float


@dataclass(frozen=True)
class SampleEvent:
    """Something that is known to happen in a rendered clip.

    Attributes:
        kind: what happens.
        start_seconds: time of the first frame that shows it.
        end_seconds: time of the first frame in which it is over.
        track: (seconds, box) pairs: where it is from that time on. One pair for what stays in place. For
            ``"camera_pan"`` the box is the window that the camera sees, in pixels of the whole painted landscape.
    """

    kind: Kind
    start_seconds: float
    end_seconds: float
    track: tuple[tuple[float, Box], ...]

    def box_at(self, seconds: float) -> Box | None:
        """Where the event is at this time, None before it starts; after its end it stays where it was last."""
        known = [box for since, box in self.track if since <= seconds + ROUNDING]
        return known[-1] if known else None

    def level_at(self, seconds: float) -> float:
        """Share of the whole change that has happened by this time, 0 to 1 (for gradual events)."""
        return min(max((seconds - self.start_seconds) / (self.end_seconds - self.start_seconds), 0.0), 1.0)


class Sample(NamedTuple):
    """A rendered clip: the video file, the file of its events, and the events."""

    path: Path
    events_path: Path
    events: tuple[SampleEvent, ...]


# -- ground truth -----------------------------------------------------------------------------------------------------


def save_events(path: str | Path, events: Sequence[SampleEvent]) -> None:
    """Write events as JSON, under its name only when complete."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text(json.dumps([asdict(event) for event in events], indent=1) + "\n")
        unfinished.replace(path)
    except OSError as error:
        raise StgraphError(
            f"{path} cannot be written ({error.strerror}); check the folder and the free space"
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)


def load_events(path: str | Path) -> tuple[SampleEvent, ...]:
    """Read events that :func:`save_events` wrote.

    Raises:
        StgraphError: no such file, or not a file of events.
    """
    try:
        entries = json.loads(Path(path).read_text())
        return tuple(
            SampleEvent(
                kind=KINDS[KINDS.index(entry["kind"])],
                start_seconds=float(entry["start_seconds"]),
                end_seconds=float(entry["end_seconds"]),
                track=tuple((float(seconds), Box(*map(float, box))) for seconds, box in entry["track"]),
            )
            for entry in entries
        )
    except OSError as error:
        raise StgraphError(f"{path} cannot be read ({error.strerror}); give the .events.json beside the clip") from None
    except (ValueError, KeyError, TypeError):
        raise StgraphError(f"{path} does not hold sample events; give the .events.json beside the clip") from None


def event_tokens(
    events: Sequence[SampleEvent],
    tokens: VideoTokens,
    frame_size: tuple[int, int],
    *,
    overlap: float = 0.25,
    level: float = 0.5,
) -> Tensor:
    """The tokens at which the known events show, given the sampled frames.

    A token is an event token when at least ``overlap`` of its patch belongs to what changed since the previous sampled
    frame. What changed depends on the kind:

    ``cut``, ``texture_change``: the event's box, in the first sampled frame at or after it.
    ``flash``: its box, in the first sampled frame that shows it and in the first after it; nothing if none shows it.
    ``enter``: what the object covers and did not cover in the previous sampled frame.
    ``moving_object``: the same, and what it uncovered.
    ``camera_pan``: the part of the picture that the camera did not see in the previous sampled frame.
    ``fade``, ``light_drift``: its box, in the frames of the change once ``level`` of the whole change has accumulated,
    up to and including the first in which it is complete.
    ``noise``: nothing.

    The first sampled frame has no past and no event tokens; neither has a separator.

    Args:
        events: of the clip.
        tokens: of one video, with timestamps.
        frame_size: (height, width) in pixels of the frames the events were painted in.
        overlap: share of a patch, above 0 and at most 1.
        level: share of a gradual change, from 0 to 1.

    Returns:
        (N,) bool.

    Raises:
        StgraphError: more than one video, or no timestamps.
    """
    check_number("overlap", overlap, above=0, at_most=1)
    check_number("level", level, at_least=0, at_most=1)
    if tokens.num_videos != 1 or tokens.timestamps is None:
        raise StgraphError(
            "event_tokens needs the tokens of one video with timestamps; use tokens.video(i), and give timestamps"
        )
    grid, times = tokens.grids[0], tokens.timestamps[0].tolist()
    cells = _Cells(grid.height, grid.width, frame_size)
    changed = np.zeros(tuple(grid), dtype=bool)
    for frame in range(1, grid.frames):
        for event in events:
            changed[frame] |= _changed(event, times[frame - 1], times[frame], cells, level) >= overlap
    t, y, x = tokens.coords.cpu().unbind(1)
    inside = ~tokens.separator.cpu()
    marked = torch.zeros(len(tokens), dtype=torch.bool)
    marked[inside] = torch.from_numpy(changed)[t[inside], y[inside], x[inside]]
    return marked.to(tokens.device)


class _Cells:
    """The patches of a token grid as rectangles of the frame."""

    def __init__(self, rows: int, columns: int, frame_size: tuple[int, int]) -> None:
        self.y = np.linspace(0, frame_size[0], rows + 1)
        self.x = np.linspace(0, frame_size[1], columns + 1)

    def covered(self, *boxes: Box) -> np.ndarray:
        """(rows, columns) share of each patch inside all the boxes."""
        y0, x0 = max(b.y0 for b in boxes), max(b.x0 for b in boxes)
        y1, x1 = min(b.y1 for b in boxes), min(b.x1 for b in boxes)
        rows = np.diff(self.y.clip(y0, max(y0, y1))) / np.diff(self.y)
        columns = np.diff(self.x.clip(x0, max(x0, x1))) / np.diff(self.x)
        return np.multiply.outer(rows, columns)


def _changed(event: SampleEvent, before: float, now: float, cells: _Cells, level: float) -> np.ndarray:
    """(rows, columns) share of each patch that the event changed between two sampled frames."""
    nothing = np.zeros((len(cells.y) - 1, len(cells.x) - 1))
    then, box = event.box_at(before), event.box_at(now)
    if event.kind == "noise" or box is None:
        return nothing
    if event.kind in ("cut", "texture_change"):
        return cells.covered(box) if then is None else nothing
    if event.kind == "flash":
        shown = [event.start_seconds <= t + ROUNDING < event.end_seconds for t in (before, now)]
        return cells.covered(box) if shown[0] != shown[1] else nothing
    if event.kind in ("fade", "light_drift"):
        changes = event.level_at(before) < event.level_at(now) and event.level_at(now) + ROUNDING >= level
        return cells.covered(box) if changes else nothing
    if event.kind == "camera_pan":
        old = event.track[0][1] if then is None else then
        seen = Box(old.y0 - box.y0, old.x0 - box.x0, old.y1 - box.y0, old.x1 - box.x0)
        return 1 - cells.covered(seen)
    fresh = cells.covered(box) - (0 if then is None else cells.covered(box, then))
    if event.kind == "moving_object" and then is not None:
        fresh = fresh + cells.covered(then) - cells.covered(box, then)
    return np.asarray(fresh)


# -- painting ---------------------------------------------------------------------------------------------------------


class Palette(NamedTuple):
    """Colours of a landscape, (red, green, blue) from 0 to 1."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    far: tuple[float, float, float]
    near: tuple[float, float, float]
    light: tuple[float, float, float]


DUSK = Palette((0.20, 0.22, 0.42), (0.98, 0.66, 0.42), (0.52, 0.38, 0.50), (0.13, 0.10, 0.18), (1.00, 0.86, 0.62))
LAKE = Palette((0.26, 0.52, 0.82), (0.84, 0.92, 0.96), (0.55, 0.68, 0.76), (0.16, 0.34, 0.20), (1.00, 0.99, 0.92))
NIGHT = Palette((0.02, 0.04, 0.12), (0.16, 0.24, 0.40), (0.11, 0.15, 0.28), (0.03, 0.04, 0.09), (0.92, 0.94, 1.00))


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int, octaves: int = 5) -> np.ndarray:
    """(height, width) float32 cloud of zero mean and unit deviation; ``cells`` bumps across the height."""
    total = np.zeros((height, width), dtype=np.float32)
    for octave in range(octaves):
        rows = min(cells * 2**octave, height) + 3
        columns = min(cells * 2**octave * width // height, width) + 3
        coarse = torch.from_numpy(rng.standard_normal((1, 1, rows, columns)).astype(np.float32))
        fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        total += fine[0, 0].numpy() * 0.5**octave
    normal: np.ndarray = (total - total.mean()) / total.std()
    return normal


def _colour(values: Sequence[float] | Sequence[Sequence[float]]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def _mix(below: np.ndarray, above: np.ndarray | Sequence[float], share: np.ndarray | float) -> np.ndarray:
    share = np.asarray(share, dtype=np.float32)
    mixed: np.ndarray = below + (np.asarray(above, dtype=np.float32) - below) * (
        share[..., None] if share.ndim else share
    )
    return mixed


def _landscape(seed: int, size: tuple[int, int], palette: Palette, *, water: bool, stars: bool = False) -> Picture:
    """Sky with a light and clouds, ranges of hills that darken towards us, and water or a meadow in front."""
    height, width = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    picture = _mix(
        np.broadcast_to(_colour(palette.zenith), (height, width, 3)), palette.horizon, (y / 0.62).clip(0, 1) ** 1.4
    )
    clouds = _smooth_noise(rng, height, width, 3)
    stretched = clouds[(np.arange(height) * 2) % height]
    picture = _mix(picture, palette.light, (stretched * 0.22 - 0.08).clip(0, 0.4) * (1 - y).clip(0, 1))
    sun_y, sun_x = 0.30, 0.62 * width / height
    distance = np.hypot(y - sun_y, x - sun_x)
    picture = _mix(
        picture, palette.light, 0.55 * np.exp(-distance / 0.16) + ((0.055 - distance) * height / 2 + 0.5).clip(0, 1)
    )
    if stars:
        bright = rng.random((height, width)) > 0.9985
        picture = _mix(
            picture, palette.light, bright * (1 - y / 0.55).clip(0, 1) * rng.uniform(0.4, 1, (height, width))
        )
    for depth in range(4):
        nearness = depth / 3
        wooded = water and depth > 1
        outline = _smooth_noise(rng, 8 if wooded else height, width, 1, octaves=6)[4]
        ridge = 0.44 + 0.075 * depth + (0.055 - 0.006 * depth) * outline
        inside = ((y - ridge[None, :]) * height + 0.5).clip(0, 1)
        shade = _mix(np.broadcast_to(_colour(palette.far), picture.shape), palette.near, nearness)
        texture = _smooth_noise(rng, height, width, 10 + 6 * depth)
        lit = 1 + 0.10 * texture + 0.5 * (1 - ((y - ridge[None, :]) / 0.16).clip(0, 1)) * (0.25 - 0.1 * nearness)
        picture = _mix(picture, shade * lit[..., None], inside)
    shore = 0.70
    front = ((y - shore) * height + 0.5).clip(0, 1)
    if water:
        ripple = _smooth_noise(rng, height, max(width // 6, 8), 24)
        ripple = np.repeat(ripple, -(-width // ripple.shape[1]), axis=1)[:, :width]
        mirror = ((2.5 * shore - 1.5 * y) * height + 1.2 * ripple).round().astype(np.int64).clip(0, height - 1)
        reflected = np.take_along_axis(picture, mirror[..., None], 0) * 0.75 + 0.10 * _colour(palette.horizon)
        reflected = reflected * (1 + 0.06 * ripple[..., None])
        return _mix(picture, reflected, front).clip(0, 1).astype(np.float32)
    grass = _smooth_noise(rng, height, width, 8) * 0.05 + _smooth_noise(rng, height, width, 50, 2) * 0.12
    ground = _mix(_colour(palette.near) * 1.15, palette.horizon, ((y - shore) * 0.8).clip(0, 0.3)) * (
        1 + grass[..., None]
    )
    return _mix(picture, ground, front).clip(0, 1).astype(np.float32)


# -- things -----------------------------------------------------------------------------------------------------------


class Sprite(NamedTuple):
    """A painted thing: colour (h, w, 3) and how much of each pixel it covers (h, w), float32 in [0, 1]."""

    colour: Picture
    cover: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.cover.shape
        return height, width


def _sprite(height: int, width: int, paint: Callable[[np.ndarray, np.ndarray], tuple[Picture, np.ndarray]]) -> Sprite:
    """Paint on y, x in [0, 1] at four times the size, then average: soft edges."""
    fine = 4
    y, x = np.mgrid[0 : height * fine, 0 : width * fine].astype(np.float32) + 0.5
    colour, cover = paint(y / (height * fine), x / (width * fine))
    cover = cover.astype(np.float32)
    blocks = (height, fine, width, fine)
    share = cover.reshape(blocks).mean((1, 3))
    mixed = (colour * cover[..., None]).reshape(*blocks, 3).mean((1, 3)) / share.clip(1e-6)[..., None]
    return Sprite(mixed.astype(np.float32), share)


def _paint_balloon(y: np.ndarray, x: np.ndarray) -> tuple[Picture, np.ndarray]:
    """A hot-air balloon: striped envelope, lit from the left, and a basket."""
    across = (x - 0.5) / 0.5
    centre = 0.36
    taper = np.where(y > centre, 1 - 0.55 * ((y - centre) / 0.44).clip(0, 1) ** 1.6, 1.0)
    round_part = np.sqrt((1 - ((y - centre) / np.where(y < centre, centre, 0.50)) ** 2).clip(0, 1))
    envelope = (np.abs(across) < round_part * taper) & (y < 0.80)
    angle = np.arcsin((across / (round_part * taper).clip(1e-3)).clip(-1, 1))
    stripe = np.floor((angle / math.pi + 0.5) * 6).astype(int) % 2
    colours = _colour([[0.90, 0.27, 0.20], [0.98, 0.84, 0.45]])
    shade = 0.55 + 0.5 * np.cos(angle + 0.7).clip(0, 1) + 0.18 * (0.35 - y)
    basket = (np.abs(across) < 0.17) & (y > 0.88)
    ropes = (np.abs(np.abs(across) - 0.16 - (0.9 - y) * 1.2) < 0.025) & (y >= 0.78) & (y <= 0.9)
    colour = colours[stripe] * shade[..., None]
    colour = np.where((basket | ropes)[..., None], _colour([0.36, 0.22, 0.12]), colour)
    return colour.clip(0, 1), envelope | basket | ropes


def _paint_boat(y: np.ndarray, x: np.ndarray) -> tuple[Picture, np.ndarray]:
    """A sailing boat: hull, main sail and jib, lit from the left."""
    hull = (y > 0.80) & (np.abs(x - 0.5) < 0.48 - (y - 0.80) * 0.8) & (y < 0.98)
    mast = (np.abs(x - 0.48) < 0.012) & (y < 0.82)
    main = (x < 0.465) & (y < 0.76) & (y > 0.02) & ((0.465 - x) < 0.43 * ((y - 0.02).clip(0) / 0.74) ** 0.8)
    jib = (x > 0.50) & (y < 0.76) & (y > 0.10) & ((x - 0.50) < 0.44 * ((y - 0.10) / 0.66))
    colour = np.where(
        hull[..., None], _colour([0.55, 0.13, 0.12]) * (1.5 - 0.9 * x)[..., None], _colour((0.25, 0.25, 0.25))
    )
    sail = _colour([0.98, 0.96, 0.90]) * (1.0 - 0.28 * x - 0.10 * np.sin(y * 9))[..., None]
    colour = np.where(main[..., None], sail, colour)
    colour = np.where(jib[..., None], sail * _colour([0.98, 0.72, 0.42]), colour)
    return colour.clip(0, 1), hull | mast | main | jib


def _place(picture: Picture, sprite: Sprite, top: float, left: float) -> Picture:
    """The picture with the sprite on it, at whole pixels; what lies outside is cut off."""
    height, width = picture.shape[:2]
    y, x = round(top), round(left)
    rows, columns = (
        slice(max(at, 0), min(at + n, total)) for at, n, total in zip((y, x), sprite.size, (height, width), strict=True)
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return picture
    own = (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))
    painted = picture.copy()
    painted[rows, columns] = _mix(picture[rows, columns], sprite.colour[own], sprite.cover[own])
    return painted


# -- what happens -----------------------------------------------------------------------------------------------------


class _Effect(NamedTuple):
    """Something that happens: how it changes the picture of frame n, and its ground truth."""

    paint: Callable[[Picture, int], Picture]
    event: SampleEvent


class _Stage(NamedTuple):
    """What all effects of a clip share."""

    height: int
    width: int
    fps: float

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def whole(self) -> Box:
        return Box(0, 0, self.height, self.width)

    def part(self, y0: float, x0: float, y1: float, x1: float) -> Box:
        """A box given in shares of the frame."""
        return Box(*(float(round(n)) for n in (y0 * self.height, x0 * self.width, y1 * self.height, x1 * self.width)))

    def frame(self, seconds: float) -> int:
        return round(seconds * self.fps)

    def event(self, kind: Kind, first: int, last: int, boxes: Sequence[Box], since: int | None = None) -> SampleEvent:
        """An event from frame ``first`` up to ``last``, with one box per frame from frame ``since`` on."""
        origin = first if since is None else since
        track = tuple(((origin + i) / self.fps, box) for i, box in enumerate(boxes))
        return SampleEvent(kind, first / self.fps, last / self.fps, track)


def _cut(stage: _Stage, at: float, other: Picture) -> _Effect:
    first = stage.frame(at)
    return _Effect(lambda p, n: other if n >= first else p, stage.event("cut", first, first + 1, [stage.whole]))


def _flash(stage: _Stage, at: float, frames: int, box: Box) -> _Effect:
    first = stage.frame(at)

    def paint(picture: Picture, n: int) -> Picture:
        return (
            _inside(picture, box, lambda part: _mix(part, (1, 1, 1), 0.8)) if first <= n < first + frames else picture
        )

    return _Effect(paint, stage.event("flash", first, first + frames, [box]))


def _fade(stage: _Stage, start: float, end: float, other: Picture) -> _Effect:
    event = stage.event("fade", stage.frame(start), stage.frame(end), [stage.whole])
    return _Effect(lambda p, n: _mix(p, other, event.level_at(n / stage.fps)), event)


def _light_drift(stage: _Stage, start: float, end: float) -> _Effect:
    event = stage.event("light_drift", stage.frame(start), stage.frame(end), [stage.whole])
    evening = _colour([0.55, 0.42, 0.38])
    return _Effect(lambda p, n: p * (1 - event.level_at(n / stage.fps) * (1 - evening)), event)


def _texture_change(stage: _Stage, at: float, box: Box, seed: int) -> _Effect:
    """The same mean colour, another texture."""
    first = stage.frame(at)
    relief = _smooth_noise(np.random.default_rng(seed), int(box.y1 - box.y0), int(box.x1 - box.x0), 12, 3)[..., None]

    def retexture(part: Picture) -> Picture:
        changed: Picture = part.mean((0, 1)) * (1 + 0.35 * relief)
        return changed

    def paint(picture: Picture, n: int) -> Picture:
        return _inside(picture, box, retexture) if n >= first else picture

    return _Effect(paint, stage.event("texture_change", first, first + 1, [box]))


def _camera_pan(stage: _Stage, start: float, end: float, wide: Picture) -> _Effect:
    first, last = stage.frame(start), stage.frame(end)
    room = wide.shape[1] - stage.width

    def window(n: int) -> Box:
        left = round(room * _ease((n - first) / (last - first)))
        return Box(0, left, stage.height, left + stage.width)

    def paint(_: Picture, n: int) -> Picture:
        box = window(n)
        return wide[:, int(box.x0) : int(box.x1)]

    return _Effect(paint, stage.event("camera_pan", first, last, [window(n) for n in range(last + 1)], since=0))


def _motion(
    stage: _Stage,
    kind: Literal["enter", "moving_object"],
    sprite: Sprite,
    span: tuple[float, float],
    path: tuple[tuple[float, float], tuple[float, float]],
    visible: float,
) -> _Effect:
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
        return _place(picture, sprite, *place(n)) if n >= since else picture

    return _Effect(paint, stage.event(kind, first, last, [box(n) for n in range(since, last + 1)], since))


def _ease(share: float) -> float:
    """0 to 1 with a soft start and a soft landing."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _inside(picture: Picture, box: Box, change: Callable[[Picture], Picture]) -> Picture:
    rows, columns = slice(int(box.y0), int(box.y1)), slice(int(box.x0), int(box.x1))
    changed = picture.copy()
    changed[rows, columns] = change(picture[rows, columns])
    return changed


def _shoot(background: Picture, effects: Sequence[_Effect], frames: int, seed: int) -> Iterator[Tensor]:
    """Paint frame after frame, (3, H, W) uint8, with the slight noise of a camera."""
    for n in range(frames):
        picture = background
        for effect in effects:
            picture = effect.paint(picture, n)
        grain = np.random.default_rng((seed, n)).standard_normal(picture.shape, dtype=np.float32)
        pixels = (picture * 255 + grain * 1.5 + 0.5).clip(0, 255).astype(np.uint8)
        yield torch.from_numpy(pixels).permute(2, 0, 1)


# -- clips ------------------------------------------------------------------------------------------------------------


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
    evening = _landscape(3 * seed + 1, stage.size, DUSK, water=False)
    lake = _landscape(3 * seed + 2, stage.size, LAKE, water=True)
    night = _landscape(3 * seed + 3, stage.size, NIGHT, water=True, stars=True)
    effects = (
        _cut(stage, 2.0, lake),
        _motion(stage, "moving_object", _boat(stage), (5.6, 7.4), ((0.56, 0.06), (0.60, 0.50)), visible=2.0),
        _motion(stage, "enter", _balloon(stage), (2.8, 4.2), ((0.16, 1.02), (0.12, 0.74)), visible=2.8),
        _flash(stage, 4.96, 3, stage.part(0, 0, 0.55, 1)),
        _fade(stage, 7.8, 9.8, night),
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
    scene = partial(_landscape, 3 * seed + 2, palette=LAKE, water=True)
    start, middle, end = (seconds * share for share in (0.25, 0.5, 0.75))
    background = scene(stage.size)
    build: dict[str, Callable[[], _Effect]] = {
        "cut": lambda: _cut(stage, middle, _landscape(3 * seed + 1, stage.size, DUSK, water=False)),
        "flash": lambda: _flash(stage, middle, 2, stage.part(0, 0, 0.55, 1)),
        "enter": lambda: _motion(stage, "enter", _balloon(stage), (start, end), ((0.16, 1.0), (0.12, 0.6)), start),
        "fade": lambda: _fade(stage, start, end, _landscape(3 * seed + 3, stage.size, NIGHT, water=True, stars=True)),
        "light_drift": lambda: _light_drift(stage, start, end),
        "texture_change": lambda: _texture_change(stage, middle, stage.part(0.5, 0.25, 1, 0.75), seed),
        "moving_object": lambda: _motion(
            stage, "moving_object", _boat(stage), (start, end), ((0.56, 0.06), (0.60, 0.7)), 0.0
        ),
        "camera_pan": lambda: _camera_pan(stage, start, end, scene((stage.height, stage.width * 3 // 2))),
    }
    effects = [build[kind]()] if kind in build else []
    frames = torch.stack(list(_shoot(background, effects, stage.frame(seconds), seed)))
    timestamps = torch.arange(len(frames), dtype=torch.float64) / fps
    return EventClip(Video(frames, timestamps, duration=seconds), tuple(effect.event for effect in effects))


def _stage(size: tuple[int, int], fps: float, seed: int) -> _Stage:
    for name, value in zip(("height", "width"), size, strict=True):
        check_number(name, value, at_least=64, integer=True)
    check_number("fps", fps, at_least=8)
    check_number("seed", seed, at_least=0, integer=True)
    return _Stage(*size, fps)


def _balloon(stage: _Stage) -> Sprite:
    return _sprite(round(0.36 * stage.height), round(0.29 * stage.height), _paint_balloon)


def _boat(stage: _Stage) -> Sprite:
    return _sprite(round(0.25 * stage.height), round(0.22 * stage.height), _paint_boat)
