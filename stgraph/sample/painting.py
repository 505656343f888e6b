"""Painted landscapes and sprites."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

Picture = np.ndarray  # (H, W, 3) float32 in [0, 1]


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


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int, octaves: int = 5) -> np.ndarray:
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


def rgb(values: Sequence[float] | Sequence[Sequence[float]]) -> np.ndarray:
    """One colour or several as float32, red, green and blue from 0 to 1."""
    return np.array(values, dtype=np.float32)


def mix(below: np.ndarray, above: np.ndarray | Sequence[float], share: np.ndarray | float) -> np.ndarray:
    """``below`` where ``share`` is 0, ``above`` where it is 1, a blend between; float32."""
    share = np.asarray(share, dtype=np.float32)
    mixed: np.ndarray = below + (np.asarray(above, dtype=np.float32) - below) * (
        share[..., None] if share.ndim else share
    )
    return mixed


def landscape(seed: int, size: tuple[int, int], palette: Palette, *, water: bool, stars: bool = False) -> Picture:
    """Sky with a light and clouds, ranges of hills that darken towards us, and water or a meadow in front."""
    height, width = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    picture = mix(
        np.broadcast_to(rgb(palette.zenith), (height, width, 3)), palette.horizon, (y / 0.62).clip(0, 1) ** 1.4
    )
    clouds = smooth_noise(rng, height, width, 3)
    stretched = clouds[(np.arange(height) * 2) % height]
    picture = mix(picture, palette.light, (stretched * 0.22 - 0.08).clip(0, 0.4) * (1 - y).clip(0, 1))
    sun_y, sun_x = 0.30, 0.62 * width / height
    distance = np.hypot(y - sun_y, x - sun_x)
    picture = mix(
        picture, palette.light, 0.55 * np.exp(-distance / 0.16) + ((0.055 - distance) * height / 2 + 0.5).clip(0, 1)
    )
    if stars:
        bright = rng.random((height, width)) > 0.9985
        picture = mix(picture, palette.light, bright * (1 - y / 0.55).clip(0, 1) * rng.uniform(0.4, 1, (height, width)))
    for depth in range(4):
        nearness = depth / 3
        wooded = water and depth > 1
        outline = smooth_noise(rng, 8 if wooded else height, width, 1, octaves=6)[4]
        ridge = 0.44 + 0.075 * depth + (0.055 - 0.006 * depth) * outline
        inside = ((y - ridge[None, :]) * height + 0.5).clip(0, 1)
        shade = mix(np.broadcast_to(rgb(palette.far), picture.shape), palette.near, nearness)
        texture = smooth_noise(rng, height, width, 10 + 6 * depth)
        lit = 1 + 0.10 * texture + 0.5 * (1 - ((y - ridge[None, :]) / 0.16).clip(0, 1)) * (0.25 - 0.1 * nearness)
        picture = mix(picture, shade * lit[..., None], inside)
    shore = 0.70
    front = ((y - shore) * height + 0.5).clip(0, 1)
    if water:
        ripple = smooth_noise(rng, height, max(width // 6, 8), 24)
        ripple = np.repeat(ripple, -(-width // ripple.shape[1]), axis=1)[:, :width]
        mirror = ((2.5 * shore - 1.5 * y) * height + 1.2 * ripple).round().astype(np.int64).clip(0, height - 1)
        reflected = np.take_along_axis(picture, mirror[..., None], 0) * 0.75 + 0.10 * rgb(palette.horizon)
        reflected = reflected * (1 + 0.06 * ripple[..., None])
        return mix(picture, reflected, front).clip(0, 1).astype(np.float32)
    grass = smooth_noise(rng, height, width, 8) * 0.05 + smooth_noise(rng, height, width, 50, 2) * 0.12
    ground = mix(rgb(palette.near) * 1.15, palette.horizon, ((y - shore) * 0.8).clip(0, 0.3)) * (1 + grass[..., None])
    return mix(picture, ground, front).clip(0, 1).astype(np.float32)


class Sprite(NamedTuple):
    """A painted thing: colour (h, w, 3) and how much of each pixel it covers (h, w), float32 in [0, 1]."""

    colour: Picture
    cover: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.cover.shape
        return height, width


def sprite(height: int, width: int, paint: Callable[[np.ndarray, np.ndarray], tuple[Picture, np.ndarray]]) -> Sprite:
    """Paint on y, x in [0, 1] at four times the size, then average: soft edges."""
    fine = 4
    y, x = np.mgrid[0 : height * fine, 0 : width * fine].astype(np.float32) + 0.5
    colour, cover = paint(y / (height * fine), x / (width * fine))
    cover = cover.astype(np.float32)
    blocks = (height, fine, width, fine)
    share = cover.reshape(blocks).mean((1, 3))
    mixed = (colour * cover[..., None]).reshape(*blocks, 3).mean((1, 3)) / share.clip(1e-6)[..., None]
    return Sprite(mixed.astype(np.float32), share)


def paint_balloon(y: np.ndarray, x: np.ndarray) -> tuple[Picture, np.ndarray]:
    """A hot-air balloon: striped envelope, lit from the left, and a basket."""
    across = (x - 0.5) / 0.5
    centre = 0.36
    taper = np.where(y > centre, 1 - 0.55 * ((y - centre) / 0.44).clip(0, 1) ** 1.6, 1.0)
    round_part = np.sqrt((1 - ((y - centre) / np.where(y < centre, centre, 0.50)) ** 2).clip(0, 1))
    envelope = (np.abs(across) < round_part * taper) & (y < 0.80)
    angle = np.arcsin((across / (round_part * taper).clip(1e-3)).clip(-1, 1))
    stripe = np.floor((angle / math.pi + 0.5) * 6).astype(int) % 2
    colours = rgb([[0.90, 0.27, 0.20], [0.98, 0.84, 0.45]])
    shade = 0.55 + 0.5 * np.cos(angle + 0.7).clip(0, 1) + 0.18 * (0.35 - y)
    basket = (np.abs(across) < 0.17) & (y > 0.88)
    ropes = (np.abs(np.abs(across) - 0.16 - (0.9 - y) * 1.2) < 0.025) & (y >= 0.78) & (y <= 0.9)
    colour = colours[stripe] * shade[..., None]
    colour = np.where((basket | ropes)[..., None], rgb([0.36, 0.22, 0.12]), colour)
    return colour.clip(0, 1), envelope | basket | ropes


def paint_boat(y: np.ndarray, x: np.ndarray) -> tuple[Picture, np.ndarray]:
    """A sailing boat: hull, main sail and jib, lit from the left."""
    hull = (y > 0.80) & (np.abs(x - 0.5) < 0.48 - (y - 0.80) * 0.8) & (y < 0.98)
    mast = (np.abs(x - 0.48) < 0.012) & (y < 0.82)
    main = (x < 0.465) & (y < 0.76) & (y > 0.02) & ((0.465 - x) < 0.43 * ((y - 0.02).clip(0) / 0.74) ** 0.8)
    jib = (x > 0.50) & (y < 0.76) & (y > 0.10) & ((x - 0.50) < 0.44 * ((y - 0.10) / 0.66))
    colour = np.where(hull[..., None], rgb([0.55, 0.13, 0.12]) * (1.5 - 0.9 * x)[..., None], rgb((0.25, 0.25, 0.25)))
    sail = rgb([0.98, 0.96, 0.90]) * (1.0 - 0.28 * x - 0.10 * np.sin(y * 9))[..., None]
    colour = np.where(main[..., None], sail, colour)
    colour = np.where(jib[..., None], sail * rgb([0.98, 0.72, 0.42]), colour)
    return colour.clip(0, 1), hull | mast | main | jib


def place_sprite(picture: Picture, sprite: Sprite, top: float, left: float) -> Picture:
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
    painted[rows, columns] = mix(picture[rows, columns], sprite.colour[own], sprite.cover[own])
    return painted
