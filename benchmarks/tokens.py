"""Synthetic video tokens: smooth scenes that pan, objects that move, cuts, texture, noise; as redundant as wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import islice

import torch
from torch import Tensor

from stgraph import VideoTokens, build_graph

SIDE = 14
"""Tokens along one side of a frame, as LLaVA-Video pools them."""

SHOT = 40
"""Frames between two cuts."""

LATENT = 32
"""Dimensions in which scenes are drawn, before they are projected to those of the features."""

OBJECTS = 2


def clip(frames: int, dim: int, share: float, *, newline: bool = False, seed: int = 0) -> Tensor:
    """(frames, 14, 14, dim) float32 features of which about ``share`` of the edges have a cosine of at least 0.8.

    Every shot is a smooth random field seen by a slowly panning camera, before which soft objects move; the texture of
    the shot stays at its place, noise is new in each frame, and norms scatter. Texture and noise grow from one side of
    the frame to the other, so calm regions form large communities and restless ones fall apart; their strength is
    what ``share`` sets. ``share`` = 1 is a still scene without objects, texture, noise or cuts.

    Args:
        frames: T.
        dim: d.
        share: wanted share of similar edges, in (0, 1].
        newline: add a 15th column, the same newline token in every row, as LLaVA-Video does.
        seed: of everything.
    """
    x = torch.empty(frames, SIDE, SIDE + newline, dim)
    for frame, out in zip(frames_of(dim, share, newline=newline, seed=seed), x, strict=False):
        out.copy_(frame)
    return x


def frames_of(dim: int, share: float, *, newline: bool = False, seed: int = 0) -> Iterator[Tensor]:
    """The frames of :func:`clip`, (14, 14, dim) each, without end."""
    return _frames(dim, None if share >= 1 else _grain(share), newline, seed)


def similar_share(x: Tensor) -> float:
    """Share of the edges of the grid ``x`` (T, H, W, d) whose cosine is at least 0.8."""
    graph = build_graph(VideoTokens.from_grid(x))
    return graph.prune(0.8).num_edges / graph.num_edges


def _frames(dim: int, grain: float | None, newline: bool, seed: int) -> Iterator[Tensor]:
    g = torch.Generator().manual_seed(seed)
    project = torch.randn(LATENT, dim, generator=g) / math.sqrt(LATENT)
    mean = torch.randn(dim, generator=g)  # what all tokens of an encoder have in common
    frame = torch.empty(SIDE, SIDE + newline, dim)
    if newline:
        frame[:, SIDE] = 0.3 * torch.randn(dim, generator=g)
    tokens = frame[:, :SIDE]
    if grain is None:
        tokens.copy_(_Scene(g, still=True)(0) @ project + mean)
        while True:
            yield frame.clone()
    restless = grain * torch.linspace(0.2, 1.8, SIDE)[:, None]
    while True:
        scene = _Scene(g)
        texture = restless * torch.randn(SIDE, SIDE, dim, generator=g)
        for age in range(SHOT):
            noise = torch.randn(SIDE, SIDE, dim, generator=g).mul_(restless)
            norm = torch.exp(0.2 * torch.randn(SIDE, SIDE, 1, generator=g))
            tokens.copy_((scene(age) @ project).add_(mean).add_(texture).add_(noise).mul_(norm))
            yield frame.clone()


class _Scene:
    """A smooth field over the plane, a camera that pans over it, and objects on their way: (14, 14, latent)."""

    def __init__(self, g: torch.Generator, *, still: bool = False) -> None:
        waves = 64
        self.frequency = torch.randn(2, waves, generator=g) / (3 * SIDE if still else 0.5 * SIDE)
        self.phase = 2 * math.pi * torch.rand(waves, generator=g)
        self.amplitude = torch.randn(waves, LATENT, generator=g) * math.sqrt(2 / waves)
        self.pan = 0.05 * torch.randn(2, generator=g)
        self.place = SIDE * torch.rand(0 if still else OBJECTS, 2, generator=g)
        self.speed = 0.2 * torch.randn(OBJECTS, 2, generator=g)
        self.radius = 1.5 + 1.5 * torch.rand(OBJECTS, generator=g)
        self.look = 1.2 * torch.randn(OBJECTS, LATENT, generator=g)
        axis = torch.arange(SIDE, dtype=torch.float32)
        self.grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)

    def __call__(self, age: int) -> Tensor:
        field = torch.cos((self.grid + age * self.pan) @ self.frequency + self.phase) @ self.amplitude
        for place, speed, radius, look in zip(self.place, self.speed, self.radius, self.look, strict=False):
            distance = (self.grid - place - age * speed).norm(dim=-1, keepdim=True)
            field = torch.lerp(field, look, torch.sigmoid(4 * (radius - distance)))
        return field


@cache
def _grain(share: float) -> float:
    """Strength of texture and noise at which about that share of the edges is similar."""
    low, high = 0.01, 4.0
    for _ in range(10):
        middle = math.sqrt(low * high)
        sample = torch.stack(list(islice(_frames(256, middle, False, 0), 2 * SHOT)))
        low, high = (middle, high) if similar_share(sample) > share else (low, middle)
    return low
