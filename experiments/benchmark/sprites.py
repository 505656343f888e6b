"""The objects that clips show: 24 kinds, drawn from polygons and ellipses with whole numbers only.

Whole numbers, because clips must have the same bytes on every machine.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

UNIT = 48
"""Side of the square that every kind is drawn in."""

FINE = 3
"""Each pixel is drawn from 3 × 3 samples, so that edges are soft."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (244, 140, 30),
    "yellow": (238, 214, 50),
    "green": (44, 160, 60),
    "cyan": (50, 196, 210),
    "blue": (40, 80, 210),
    "purple": (130, 50, 180),
    "pink": (244, 130, 190),
}
"""Name -> sRGB, 0 to 255."""

ROLES = ("main", "dark", "light", "black", "white")
"""What a part of an object is coloured with: its own colour, darker, lighter, or a fixed one."""


class Part(NamedTuple):
    """A filled shape: a polygon of (x, y) corners, or an ellipse (x, y, x radius, y radius), in units of ``UNIT``."""

    role: str
    polygon: tuple[int, ...] = ()
    ellipse: tuple[int, int, int, int] | None = None


def _p(role: str, *corners: int) -> Part:
    return Part(role, polygon=corners)


def _e(role: str, x: int, y: int, rx: int, ry: int) -> Part:
    return Part(role, ellipse=(x, y, rx, ry))


SHAPES: dict[str, tuple[Part, ...]] = {
    "ball": (_e("main", 24, 24, 22, 22), _p("white", 2, 20, 46, 20, 46, 28, 2, 28), _e("light", 15, 12, 6, 4)),
    "balloon": (
        _e("main", 24, 17, 17, 17),
        _e("light", 17, 11, 4, 6),
        _p("black", 20, 36, 28, 36, 27, 46, 21, 46),
        _p("dark", 19, 32, 29, 32, 24, 37),
    ),
    "bell": (
        _e("main", 24, 16, 13, 13),
        _p("main", 11, 16, 37, 16, 44, 38, 4, 38),
        _e("black", 24, 42, 5, 5),
        _p("dark", 4, 34, 44, 34, 44, 38, 4, 38),
    ),
    "boat": (
        _p("main", 2, 32, 46, 32, 36, 46, 12, 46),
        _p("black", 22, 2, 25, 2, 25, 32, 22, 32),
        _p("white", 27, 4, 44, 29, 27, 29),
        _p("light", 20, 8, 20, 29, 6, 29),
    ),
    "book": (
        _p("main", 4, 6, 44, 6, 44, 42, 4, 42),
        _p("white", 8, 10, 22, 10, 22, 38, 8, 38),
        _p("white", 26, 10, 40, 10, 40, 38, 26, 38),
        _p("black", 22, 6, 26, 6, 26, 42, 22, 42),
    ),
    "bus": (
        _p("main", 2, 10, 46, 10, 46, 38, 2, 38),
        _p("white", 6, 14, 16, 14, 16, 24, 6, 24),
        _p("white", 19, 14, 29, 14, 29, 24, 19, 24),
        _p("white", 32, 14, 42, 14, 42, 24, 32, 24),
        _e("black", 12, 39, 6, 6),
        _e("black", 36, 39, 6, 6),
    ),
    "cake": (
        _p("main", 4, 24, 44, 24, 44, 46, 4, 46),
        _p("white", 4, 20, 44, 20, 44, 29, 4, 29),
        _p("dark", 4, 36, 44, 36, 44, 40, 4, 40),
        _p("light", 22, 6, 26, 6, 26, 20, 22, 20),
        _e("black", 24, 4, 3, 4),
    ),
    "clock": (
        _e("main", 24, 24, 22, 22),
        _e("white", 24, 24, 16, 16),
        _p("black", 22, 11, 26, 11, 26, 26, 22, 26),
        _p("black", 24, 22, 36, 22, 36, 26, 24, 26),
    ),
    "cross": (_p("main", 16, 2, 32, 2, 32, 16, 46, 16, 46, 32, 32, 32, 32, 46, 16, 46, 16, 32, 2, 32, 2, 16, 16, 16),),
    "cup": (
        _e("main", 36, 22, 10, 11),
        _e("black", 36, 22, 5, 6),
        _p("main", 4, 8, 36, 8, 32, 44, 8, 44),
        _p("dark", 4, 8, 36, 8, 35, 14, 5, 14),
    ),
    "fish": (
        _e("main", 20, 24, 18, 13),
        _p("dark", 32, 24, 47, 9, 47, 39),
        _e("white", 11, 20, 5, 5),
        _e("black", 11, 20, 2, 2),
        _p("light", 18, 30, 28, 30, 23, 36),
    ),
    "flag": (
        _p("black", 4, 2, 9, 2, 9, 46, 4, 46),
        _p("main", 9, 4, 46, 4, 38, 15, 46, 27, 9, 27),
        _p("white", 9, 12, 42, 12, 40, 19, 9, 19),
    ),
    "flower": (
        _e("main", 24, 10, 9, 9),
        _e("main", 37, 20, 9, 9),
        _e("main", 32, 36, 9, 9),
        _e("main", 16, 36, 9, 9),
        _e("main", 11, 20, 9, 9),
        _e("white", 24, 24, 8, 8),
        _e("black", 24, 24, 3, 3),
    ),
    "heart": (_e("main", 14, 15, 12, 12), _e("main", 34, 15, 12, 12), _p("main", 3, 20, 45, 20, 24, 46)),
    "house": (
        _p("dark", 24, 2, 47, 22, 1, 22),
        _p("main", 6, 22, 42, 22, 42, 46, 6, 46),
        _p("black", 19, 30, 29, 30, 29, 46, 19, 46),
        _p("white", 9, 26, 16, 26, 16, 33, 9, 33),
        _p("white", 32, 26, 39, 26, 39, 33, 32, 33),
    ),
    "key": (
        _e("main", 12, 24, 11, 13),
        _e("black", 12, 24, 5, 6),
        _p("main", 22, 20, 46, 20, 46, 28, 22, 28),
        _p("main", 32, 28, 36, 28, 36, 38, 32, 38),
        _p("main", 40, 28, 46, 28, 46, 40, 40, 40),
    ),
    "kite": (
        _p("main", 24, 1, 42, 18, 24, 35, 6, 18),
        _p("white", 24, 1, 24, 35, 6, 18),
        _p("black", 23, 35, 26, 35, 34, 47, 30, 47),
    ),
    "leaf": (
        _p("main", 3, 45, 4, 22, 16, 8, 45, 3, 40, 32, 26, 44),
        _p("light", 2, 44, 4, 46, 36, 13, 34, 11),
        _p("dark", 16, 22, 30, 24, 28, 28, 14, 26),
    ),
    "moon": (
        _p("main", 30, 2, 16, 4, 6, 14, 4, 26, 10, 38, 20, 45, 34, 45, 44, 37, 32, 36, 23, 30, 19, 20, 22, 10),
        _e("dark", 12, 26, 3, 4),
    ),
    "mushroom": (
        _p("white", 17, 24, 31, 24, 33, 46, 15, 46),
        _e("main", 24, 18, 22, 15),
        _e("white", 14, 16, 4, 4),
        _e("white", 28, 10, 4, 4),
        _e("white", 36, 20, 4, 4),
        _p("dark", 4, 24, 44, 24, 40, 30, 8, 30),
    ),
    "rocket": (
        _p("main", 24, 1, 33, 14, 33, 36, 15, 36, 15, 14),
        _p("dark", 15, 24, 15, 40, 5, 40),
        _p("dark", 33, 24, 33, 40, 43, 40),
        _e("white", 24, 18, 5, 5),
        _p("light", 18, 36, 30, 36, 24, 47),
    ),
    "star": (_p("main", 24, 1, 30, 17, 47, 18, 34, 29, 39, 46, 24, 36, 9, 46, 14, 29, 1, 18, 18, 17),),
    "tree": (
        _p("black", 20, 34, 28, 34, 28, 47, 20, 47),
        _p("main", 24, 1, 37, 18, 11, 18),
        _p("dark", 24, 8, 41, 27, 7, 27),
        _p("main", 24, 16, 45, 37, 3, 37),
    ),
    "umbrella": (
        _e("main", 24, 23, 22, 21),
        _p("clear", 0, 24, 48, 24, 48, 48, 0, 48),
        _p("dark", 17, 23, 24, 3, 31, 23),
        _p("black", 22, 22, 26, 22, 26, 44, 22, 44),
        _p("black", 14, 40, 26, 40, 26, 45, 14, 45),
    ),
}
"""Kind -> its parts from back to front; a part that is ``clear`` takes away what lies behind it."""

KINDS = tuple(SHAPES)


@cache
def cover(kind: str, size: int) -> np.ndarray:
    """(roles, size, size) int64: how many of the samples of each pixel have each of :data:`ROLES`."""
    n = size * FINE
    # Sample i lies at (i + 1/2) · UNIT / n; all is counted in 2 · n, so that it stays whole.
    at = (2 * np.arange(n, dtype=np.int64) + 1) * UNIT
    scale = 2 * n
    y, x = at[:, None], at[None, :]
    role = np.full((n, n), -1, np.int64)
    for part in SHAPES[kind]:
        if part.ellipse is not None:
            cx, cy, rx, ry = (value * scale for value in part.ellipse)
            inside = ((x - cx) * ry // scale) ** 2 + ((y - cy) * rx // scale) ** 2 <= (rx * ry // scale) ** 2
        else:
            inside = _inside(part.polygon, x, y, scale)
        role[inside] = ROLES.index(part.role) if part.role != "clear" else -1
    counts = np.stack([(role == number) for number in range(len(ROLES))]).astype(np.int64)
    found: np.ndarray = counts.reshape(len(ROLES), size, FINE, size, FINE).sum((2, 4))
    found.flags.writeable = False
    return found


def _inside(polygon: tuple[int, ...], x: np.ndarray, y: np.ndarray, scale: int) -> np.ndarray:
    """Whether samples lie in a polygon, by the parity of the edges that a ray to the right crosses."""
    corners = [(polygon[i] * scale, polygon[i + 1] * scale) for i in range(0, len(polygon), 2)]
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        sign = 1 if y1 > y0 else -1
        left = sign * ((x - x0) * (y1 - y0) - (x1 - x0) * (y - y0)) < 0
        inside ^= (y >= low) & (y < high) & left
    return inside


def painted(kind: str, colour: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An object's pixels: (size, size, 3) int32 colour, 0 to 255, and (size, size) int32 opacity, 0 to 256."""
    main = np.array(COLOURS[colour], np.int64)
    colours = np.stack([main, main * 3 // 5, 255 - (255 - main) * 3 // 5, main * 0 + 24, main * 0 + 240])
    counts = cover(kind, size)
    total = counts.sum(0)
    mixed = np.einsum("rhw,rc->hwc", counts, colours) // np.maximum(total, 1)[..., None]
    return mixed.astype(np.int32), (total * 256 // FINE**2).astype(np.int32)
