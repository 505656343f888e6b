"""What happens in a clip: scenes, objects and events, drawn at random from a seed.

Only ``random.Random`` with a text as seed is used, whose numbers are the same on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from stgraph import StgraphError

from .sprites import COLOURS, KINDS

Event = Literal["flash", "enter", "leave", "fade", "move"]

PLACES = ("top-left", "top", "top-right", "left", "centre", "right", "bottom-left", "bottom", "bottom-right")
"""The cells of a frame, row by row; their number is 3 · row + column."""

DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Name -> step in (rows, columns) of cells."""

SHORTEST = 4
"""Frames of the shortest scene."""


@dataclass(frozen=True)
class Knobs:
    """How difficult clips are.

    Attributes:
        frames: of the clip, 8 to 64.
        side: of the square frames in pixels, a multiple of 16, 96 to 256. A token covers 16 × 16 of them.
        fps: frames per second, 1, 2 or 4. At a higher rate motion and fading are spread over more frames.
        noise: amplitude of the camera's noise in grey levels, 0 to 60.
        motion: greatest drift of the camera within a scene in pixels, 0 to 12.
        size: scale of the objects, 0.6 to 1.2.
        clutter: nameless shapes in the background of each scene, 0 to 20.
        compression: step of the quantiser in grey levels, 0 (off) to 40.
    """

    frames: int = 16
    side: int = 128
    fps: int = 2
    noise: int = 10
    motion: int = 8
    size: float = 1.0
    clutter: int = 6
    compression: int = 6

    def __post_init__(self) -> None:
        bounds = {
            "frames": (8, 64),
            "side": (96, 256),
            "fps": (1, 4),
            "noise": (0, 60),
            "motion": (0, 12),
            "size": (0.6, 1.2),
            "clutter": (0, 20),
            "compression": (0, 40),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise StgraphError(f"{name} of a clip must be between {low} and {high}, got {value}")
        if self.side % 16:
            raise StgraphError(f"side of a clip must be a multiple of 16 pixels, got {self.side}")
        if self.fps == 3:
            raise StgraphError("fps of a clip must be 1, 2 or 4, got 3")

    @property
    def grid(self) -> int:
        """Tokens along a side of a frame."""
        return self.side // 16


@dataclass(frozen=True)
class Thing:
    """An object of a scene.

    Attributes:
        kind: one of ``KINDS``; no two objects of a clip have the same.
        colour: one of ``COLOURS``.
        size: in pixels.
        place: number of the cell where it is at first, see ``PLACES``.
        offset: (y, x) of its centre from the cell's centre in pixels.
        small: whether it is the small object of the clip.
        event: what happens to it, or None.
        first: frame of the clip in which the event begins.
        last: frame behind its end.
        target: number of the cell that it moves to; else ``place``.
        direction: in which it moves, comes or goes; else None.
    """

    kind: str
    colour: str
    size: int
    place: int
    offset: tuple[int, int]
    small: bool = False
    event: Event | None = None
    first: int = 0
    last: int = 0
    target: int = -1
    direction: str | None = None


@dataclass(frozen=True)
class Scene:
    """The frames between two cuts.

    Attributes:
        start: first frame.
        stop: frame behind the last.
        things: its objects.
        seed: of the background, as text.
        drift: (y, x) pixels that the camera moves from the first frame to the last.
        light: brightness in the first and the last frame, in 256ths.
    """

    start: int
    stop: int
    things: tuple[Thing, ...]
    seed: str
    drift: tuple[int, int]
    light: tuple[int, int]

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Script:
    """All that a clip shows.

    Attributes:
        name: of the clip: split and number.
        knobs: how difficult it is.
        scenes: one after the other.
        counted: a colour that 1 to 4 objects have, each number equally often.
        shake: (y, x) of each frame, in pixels.
    """

    name: str
    knobs: Knobs
    scenes: tuple[Scene, ...]
    counted: str
    shake: tuple[tuple[int, int], ...] = field(repr=False)

    @property
    def things(self) -> list[tuple[Scene, Thing]]:
        """All objects with their scenes."""
        return [(scene, thing) for scene in self.scenes for thing in scene.things]

    @property
    def cuts(self) -> list[int]:
        """First frames of all scenes but the first."""
        return [scene.start for scene in self.scenes[1:]]

    def seconds(self, frame: int) -> float:
        """When a frame is shown."""
        return frame / self.knobs.fps


def write_script(name: str, knobs: Knobs, *, practice: bool = False) -> Script:
    """The script of a clip; ``name`` is its seed.

    Args:
        name: of the clip: split and number.
        knobs: how difficult it is.
        practice: for training: more objects move, and of every colour there are 1 to 4 objects, each number equally
            often. So a clip teaches several times as much about directions and numbers.
    """
    chance = random.Random(f"stgraph clip {name}")
    cuts = min(chance.randrange(4), knobs.frames // SHORTEST - 1)
    starts = _starts(chance, knobs.frames, cuts)
    counts = [chance.randint(4, 5 if cuts else 6) for _ in starts]
    kinds = chance.sample(KINDS, sum(counts))
    counted = chance.choice(list(COLOURS))
    colours = (_practice_colours if practice else _colours)(chance, counted, sum(counts))
    scenes: list[Scene] = []
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], knobs.frames], strict=True)):
        things = []
        places = chance.sample(range(9), counts[number])
        if number == 1 and cuts == 1:  # for questions about what was at a place before
            old = [thing.place for thing in scenes[0].things]
            places = [*old[:3], *(place for place in places if place not in old[:3])][: counts[number]]
        for place in places:
            size = round(knobs.side * knobs.size * chance.randint(17, 23) / 100)
            offset = (chance.randint(-3, 3), chance.randint(-3, 3))
            things.append(Thing(kinds.pop(), colours.pop(), size, place, offset))
        drift = (0, 0)
        if chance.random() < 0.5:
            drift = (chance.randint(-knobs.motion, knobs.motion) // 2, chance.randint(-knobs.motion, knobs.motion))
        light = (chance.randint(200, 280), chance.randint(200, 280))
        scenes.append(Scene(start, stop, tuple(things), f"{name} {number}", drift, light))
    if chance.random() < 0.5:  # one object of the clip is small
        number = chance.randrange(len(scenes))
        scenes[number] = _change(scenes[number], 0, small=True, size=max(8, round(knobs.side * knobs.size * 0.1)))
    plan = [*["flash"] * chance.choice((1, 1, 2)), "enter", "leave", "move", "fade"]
    more = [event for event in ("move", "enter") if chance.random() < 0.4]
    for event in [*plan, *more, *["move"] * (4 * practice)]:
        _happen(chance, knobs, scenes, event)
    shake = tuple((chance.randint(-1, 1), chance.randint(-1, 1)) for _ in range(knobs.frames))
    return Script(name, knobs, tuple(scenes), counted, shake)


def _starts(chance: random.Random, frames: int, cuts: int) -> list[int]:
    """First frames of the scenes: all divisions into scenes of at least ``SHORTEST`` frames are equally likely."""
    spare = frames - SHORTEST * (cuts + 1)
    bars = sorted(chance.sample(range(spare + cuts), cuts))
    return [0, *(bar - number + SHORTEST * (number + 1) for number, bar in enumerate(bars))]


def _colours(chance: random.Random, counted: str, count: int) -> list[str]:
    """A colour for each object; 1 to 4 have the colour ``counted``."""
    times = chance.randint(1, min(4, count))
    others = [colour for colour in COLOURS if colour != counted]
    found = [counted] * times + [chance.choice(others) for _ in range(count - times)]
    chance.shuffle(found)
    return found


def _practice_colours(chance: random.Random, counted: str, count: int) -> list[str]:
    """A colour for each object; 1 to 4 have each colour, the last one takes what is left."""
    order = [counted, *chance.sample([colour for colour in COLOURS if colour != counted], len(COLOURS) - 1)]
    found: list[str] = []
    for colour in order:
        found += [colour] * min(chance.randint(1, 4), count - len(found))
    found += [chance.choice(order) for _ in range(count - len(found))]
    chance.shuffle(found)
    return found


def _change(scene: Scene, number: int, **changes: object) -> Scene:
    things = list(scene.things)
    things[number] = replace(things[number], **changes)  # type: ignore[arg-type]
    return replace(scene, things=tuple(things))


def _happen(chance: random.Random, knobs: Knobs, scenes: list[Scene], event: str) -> None:
    """Let ``event`` happen to an object that nothing happens to yet, where there is room for it.

    The middle frame tells nothing: what it shows is the same for all objects that a question could mean. So nothing
    happens in it; in its scene, what enters has come before it, and what leaves or fades does so after it.
    """
    middle = knobs.frames // 2
    options = []
    for at, scene in enumerate(scenes):
        takes = {"flash": 1, "enter": knobs.fps, "leave": knobs.fps, "fade": max(3, 2 * knobs.fps), "move": knobs.fps}
        length = min(takes[event], len(scene) - 2)
        firsts = range(scene.start + 1, scene.stop - length)
        if event == "flash":  # of all times but the middle and both ends of the clip each is equally likely
            firsts = range(max(scene.start, 1), min(scene.stop, knobs.frames - 1))
        elif scene.start <= middle < scene.stop:
            if event == "enter":
                firsts = range(firsts.start, min(firsts.stop, middle - length + 1))
            elif event in ("leave", "fade"):
                firsts = range(max(firsts.start, middle + 1), firsts.stop)
        # Of a small object only what it is matters; most objects of a scene just stand there.
        idle = [n for n, thing in enumerate(scene.things) if thing.event is None and not thing.small]
        if len(idle) > (1 if event == "flash" or len(scene) > 6 else 2):
            options += [(at, first, length, idle) for first in firsts if not first <= middle < first + length]
    if not options:
        return
    at, first, length, idle = chance.choice(options)
    scene, number = scenes[at], chance.choice(idle)
    thing = scene.things[number]
    changes: dict[str, object] = {"event": event, "first": first, "last": first + length}
    if event == "move":
        taken = {other.place for other in scene.things} | {other.target for other in scene.things}
        moves = _moves(thing.place, taken)
        if not moves:
            return
        direction = chance.choice(sorted(moves))
        changes |= {"direction": direction, "target": chance.choice(moves[direction])}
    elif event in ("enter", "leave"):
        changes["direction"] = chance.choice(_edges(thing.place))
    scenes[at] = _change(scene, number, **changes)


def _moves(place: int, taken: set[int]) -> dict[str, list[int]]:
    """Direction -> the free cells that an object can move to without crossing another."""
    found: dict[str, list[int]] = {}
    for direction, (down, right) in DIRECTIONS.items():
        row, column = place // 3 + down, place % 3 + right
        while 0 <= row < 3 and 0 <= column < 3 and 3 * row + column not in taken:
            found.setdefault(direction, []).append(3 * row + column)
            row, column = row + down, column + right
    return found


def _edges(place: int) -> Sequence[str]:
    """Directions of the edges of the frame that a cell lies at; the centre takes any."""
    row, column = divmod(place, 3)
    near = [name for name, (down, right) in DIRECTIONS.items() if not (0 <= row + down < 3 and 0 <= column + right < 3)]
    return near or list(DIRECTIONS)
