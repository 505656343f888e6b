"""Clips as pictures: the same bytes on every machine and thread count, because all sums are of whole numbers."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stgraph import Video

from .script import DIRECTIONS, Knobs, Scene, Script, Thing
from .sprites import painted

MARGIN = 16
"""Pixels of background around the frame, for drift and shake."""


class Clip(NamedTuple):
    """A painted clip.

    Attributes:
        script: what it shows.
        frames: (T, H, W, 3) uint8.
        shares: (objects, T, h, w) uint8, how much of the 16 × 16 pixels of each token an object covers, in 255ths;
            objects in the order of ``script.things``.
    """

    script: Script
    frames: np.ndarray
    shares: np.ndarray

    @property
    def video(self) -> Video:
        """As read from a file."""
        frames: Tensor = torch.from_numpy(np.ascontiguousarray(self.frames.transpose(0, 3, 1, 2)))
        count, fps = len(frames), self.script.knobs.fps
        times = torch.arange(count, dtype=torch.float64) / fps
        return Video(frames, times, self.script.name, count / fps)


class Pose(NamedTuple):
    """An object in one frame: place of its upper left pixel, opacity and how much it shines, in 256ths."""

    top: int
    left: int
    opacity: int
    shine: int


def paint(script: Script) -> Clip:
    """Paint all frames of a clip."""
    knobs = script.knobs
    side = knobs.side
    frames = np.empty((knobs.frames, side, side, 3), np.int32)
    for scene in script.scenes:
        behind = background(scene.seed, knobs)
        sprites = [painted(thing.kind, thing.colour, thing.size) for thing in scene.things]
        for frame in range(scene.start, scene.stop):
            y, x = _camera(script, scene, frame)
            canvas = behind[MARGIN - y : MARGIN - y + side, MARGIN - x : MARGIN - x + side].copy()
            for thing, sprite in zip(scene.things, sprites, strict=True):
                pose = _pose(script, scene, thing, frame)
                if pose is not None:
                    put(canvas, sprite, pose)
            step, steps = frame - scene.start, max(1, len(scene) - 1)
            light = scene.light[0] + (scene.light[1] - scene.light[0]) * step // steps
            np.multiply(canvas, light, out=frames[frame])
    frames >>= 8
    add_noise(frames, script.name, knobs.noise)
    if knobs.compression:
        frames = compressed(frames, knobs.compression)
    return Clip(script, frames.clip(0, 255).astype(np.uint8), cover_of(script))


def unpainted(script: Script) -> Clip:
    """A clip without pixels, which questions do not look at."""
    return Clip(script, np.zeros((0, 0, 0, 3), np.uint8), cover_of(script))


def cover_of(script: Script) -> np.ndarray:
    """(objects, T, h, w) uint8 how much of each token objects cover, without painting; see :class:`Clip`."""
    knobs = script.knobs
    found = np.zeros((len(script.things), knobs.frames, knobs.grid, knobs.grid), np.uint8)
    for number, (scene, thing) in enumerate(script.things):
        _, opacity = painted(thing.kind, thing.colour, thing.size)
        for frame in range(scene.start, scene.stop):
            pose = _pose(script, scene, thing, frame)
            if pose is not None:
                found[number, frame] = share(opacity, pose, knobs.side)
    return found


def share(opacity: np.ndarray, pose: Pose, side: int) -> np.ndarray:
    """(h, w) int32, how much of the 16 × 16 pixels of each token an object covers, in 255ths."""
    grid, size = side // 16, len(opacity)
    # The object on a canvas with room around it, at its place within a token; then the tokens that lie in the frame.
    room = -(-size // 16) + 1
    there = np.zeros((16 * room, 16 * room), np.int32)
    top, left = pose.top % 16, pose.left % 16
    there[top : top + size, left : left + size] = opacity
    sums = there.reshape(room, 16, room, 16).sum((1, 3)) * 255 // (256 * 256)
    found = np.zeros((grid, grid), np.int32)
    y, x = pose.top // 16, pose.left // 16
    y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + room, grid), min(x + room, grid)
    if y0 < y1 and x0 < x1:
        found[y0:y1, x0:x1] = sums[y0 - y : y1 - y, x0 - x : x1 - x]
    return found


def _camera(script: Script, scene: Scene, frame: int) -> tuple[int, int]:
    """(y, x) pixels that the picture is moved by in a frame: half the drift back at first, half on at last."""
    step, steps = 2 * (frame - scene.start) - (len(scene) - 1), 2 * max(1, len(scene) - 1)
    y, x = script.shake[frame]
    return y + scene.drift[0] * step // steps, x + scene.drift[1] * step // steps


def _pose(script: Script, scene: Scene, thing: Thing, frame: int) -> Pose | None:
    """Where and how an object is seen in a frame; None where it is not."""
    side = script.knobs.side
    top, left = (side * (2 * n + 1) // 6 for n in divmod(thing.place, 3))
    opacity, shine = 256, 0
    length = max(1, thing.last - thing.first)
    begun = min(max(frame - thing.first + 1, 0), length)  # of the event's frames, up to this one
    if thing.event == "flash":
        shine = 256 if thing.first <= frame < thing.last else 0
    elif thing.event == "fade":
        opacity = 256 - 220 * begun // length
    elif thing.event == "move":
        goal = [side * (2 * n + 1) // 6 for n in divmod(thing.target, 3)]
        top, left = top + (goal[0] - top) * begun // length, left + (goal[1] - left) * begun // length
    elif thing.event in ("enter", "leave"):
        down, right = DIRECTIONS[str(thing.direction)]
        way = side // 2 if thing.place == 4 else side // 6  # from the cell's centre to the edge
        away = (way + thing.size // 2 + 2) * (length - begun if thing.event == "enter" else begun) // length
        if (begun == 0 and thing.event == "enter") or (begun == length and thing.event == "leave"):
            return None
        top, left = top + down * away, left + right * away
    half = thing.size // 2
    y, x = _camera(script, scene, frame)
    return Pose(top + thing.offset[0] - half + y, left + thing.offset[1] - half + x, opacity, shine)


def put(canvas: np.ndarray, sprite: tuple[np.ndarray, np.ndarray], pose: Pose) -> None:
    """Put an object, its colour and opacity, on a frame."""
    colour, opacity = sprite
    size, side = len(opacity), len(canvas)
    if pose.shine:
        _glow(canvas, pose, size)
        colour = colour + (255 - colour) * pose.shine * 3 // 1024
    y0, x0, y1, x1 = max(pose.top, 0), max(pose.left, 0), min(pose.top + size, side), min(pose.left + size, side)
    if y0 >= y1 or x0 >= x1:
        return
    own = slice(y0 - pose.top, y1 - pose.top), slice(x0 - pose.left, x1 - pose.left)
    alpha = (opacity[own] * pose.opacity >> 8)[..., None]
    part = canvas[y0:y1, x0:x1]
    part += (colour[own] - part) * alpha >> 8


def _glow(canvas: np.ndarray, pose: Pose, size: int) -> None:
    """A white disc behind a flashing object that grows fainter outwards."""
    side, radius = len(canvas), size * 3 // 4 + 2
    cy, cx = pose.top + size // 2, pose.left + size // 2
    y, x = (
        np.arange(max(cy - radius, 0), min(cy + radius, side)),
        np.arange(max(cx - radius, 0), min(cx + radius, side)),
    )
    if not len(y) or not len(x):
        return
    far = (y[:, None] - cy) ** 2 + (x[None] - cx) ** 2
    alpha = (240 - far * 240 // radius**2).clip(0)[..., None]
    part = canvas[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    part += (255 - part) * alpha >> 8


# -- backgrounds ------------------------------------------------------------------------------------------------------


def background(seed: str, knobs: Knobs) -> np.ndarray:
    """(side + 2 · MARGIN, …, 3) int32 textured background, 0 to 255."""
    chance = random.Random(f"stgraph background {seed}")
    whole = knobs.side + 2 * MARGIN
    base, other = (np.array([chance.randint(40, 200) for _ in range(3)], np.int32) for _ in range(2))
    grey = (base.sum() + other.sum()) // 6
    base, other = (base + grey) // 2, (other + grey) // 2  # objects are more colourful than what they stand before
    relief = _relief(chance, whole)
    pattern = chance.randrange(4)
    y, x = np.arange(whole, dtype=np.int32)[:, None], np.arange(whole, dtype=np.int32)[None]
    if pattern == 0:  # from one colour at the top to another at the bottom
        mix = (y * 256 // whole) + 0 * x
    elif pattern == 1:  # stripes
        width = chance.randint(8, 24)
        mix = ((x + y * chance.randint(-1, 1)) // width % 2) * 90 + 60
    elif pattern == 2:  # bricks
        height = chance.randint(10, 20)
        row = y // height
        joint = (y % height < 2) | ((x + row % 2 * height) % (2 * height) < 2)
        mix = np.where(joint, 200, 60)
    else:  # clouds
        mix = (_relief(chance, whole) + 128).clip(0, 256)
    picture = base + (other - base) * mix[..., None] // 256 + (relief * chance.randint(12, 40) // 128)[..., None]
    for _ in range(knobs.clutter):
        _litter(chance, picture)
    side_light = chance.randint(-40, 40)
    picture = picture * (256 + side_light * (2 * x - whole) // whole)[..., None] >> 8
    return np.ascontiguousarray(picture.clip(8, 247), dtype=np.int32)


def _relief(chance: random.Random, whole: int) -> np.ndarray:
    """(whole, whole) int32 smooth noise, about −128 to 128: random heights at 4 spacings, in between linear."""
    total = np.zeros((whole, whole), np.int32)
    for spacing, weight in ((48, 6), (24, 4), (12, 3), (5, 3)):
        count = whole // spacing + 2
        heights = np.frombuffer(chance.randbytes(count * count), np.uint8).astype(np.int32).reshape(count, count) - 128
        at, rest = np.divmod(np.arange(whole), spacing)
        rows = heights[at] * (spacing - rest)[:, None] + heights[at + 1] * rest[:, None]
        both = rows[:, at] * (spacing - rest) + rows[:, at + 1] * rest
        total += weight * (both // spacing**2) // 8
    return total


def _litter(chance: random.Random, picture: np.ndarray) -> None:
    """A nameless shape of a pale colour that belongs to the background."""
    whole = len(picture)
    height, width = chance.randint(6, whole // 4), chance.randint(6, whole // 4)
    top, left = chance.randrange(whole - height), chance.randrange(whole - width)
    part = picture[top : top + height, left : left + width]
    tint = np.array([chance.randint(-50, 50)] * 3, np.int32) + [chance.randint(-12, 12) for _ in range(3)]
    if chance.random() < 0.5:
        y, x = np.arange(height)[:, None], np.arange(width)[None]
        round_ = ((2 * y - height) * width) ** 2 + ((2 * x - width) * height) ** 2 <= (height * width) ** 2
        part += tint * round_[..., None]
    else:
        part += tint


# -- the camera -------------------------------------------------------------------------------------------------------


def add_noise(frames: np.ndarray, seed: str, amplitude: int) -> None:
    """Add noise of every pixel and channel: the sum of two even throws, within ± ``amplitude``."""
    if not amplitude:
        return
    number = random.Random(f"stgraph noise {seed}").getrandbits(64)
    raw = np.random.PCG64(number).random_raw(-(-frames.size // 4)).view(np.uint16)[: frames.size].reshape(frames.shape)
    noise = (raw & 255).astype(np.int32)
    noise += raw >> 8
    noise -= 255
    noise *= amplitude
    noise >>= 8
    frames += noise


def compressed(frames: np.ndarray, step: int) -> np.ndarray:
    """(T, H, W, 3) as after a lossy video codec: colour at half the resolution, brightness coarse in 8 × 8 blocks.

    The blocks go through the Walsh-Hadamard transform; finer detail is cut more coarsely. All values are whole numbers
    below 2²⁴, so products in float32 are exact in any order.
    """
    red, green, blue = (frames[..., c] for c in range(3))
    luma = (red + 2 * green + blue) >> 2
    count, height, width = luma.shape
    chroma = []
    for channel in (red, blue):
        small = channel - luma
        small = small[:, ::2, ::2] + small[:, ::2, 1::2] + small[:, 1::2, ::2] + small[:, 1::2, 1::2]
        chroma.append((small >> 2).repeat(2, 1).repeat(2, 2))
    spectrum = _hadamard(luma.astype(np.float32))
    order = np.array([0, 7, 3, 4, 1, 6, 2, 5])  # changes of sign of each row of the transform
    steps = (step * 8 * (2 + order[:, None] + order[None]) // 4).clip(1).astype(np.float32)[:, None, :]
    blocks = spectrum.reshape(count, height // 8, 8, width // 8, 8)
    blocks += np.floor(steps / 2)
    # Quotients of whole numbers below 2²⁴ are rounded down rightly: a quotient just below a whole number n differs from
    # n by at least 1 / step, far more than float32 rounds.
    np.floor(blocks / steps, out=blocks)
    blocks *= steps
    luma = _hadamard(spectrum).astype(np.int32) >> 6
    out = np.empty_like(frames)
    np.add(luma, chroma[0], out=out[..., 0])
    np.add(luma, chroma[1], out=out[..., 2])
    out[..., 1] = (4 * luma - out[..., 0] - out[..., 2]) >> 1
    return out


_WALSH = np.array([[(-1) ** (i & j).bit_count() for j in range(8)] for i in range(8)], np.float32)


def _hadamard(planes: np.ndarray) -> np.ndarray:
    """The Walsh-Hadamard transform of all 8 × 8 blocks of (T, H, W); twice is 64 times the values."""
    count, height, width = planes.shape
    rows = (planes.reshape(-1, 8) @ _WALSH).reshape(count, height // 8, 8, width)
    found: np.ndarray = np.matmul(_WALSH, rows).reshape(count, height, width)
    return found
