"""Synthetic video tokens: smooth in space, steady in time, with cuts, texture and noise; as redundant as wanted."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from stgraph import VideoTokens, build_graph

SIDE = 14
"""Tokens along one side of a frame, as LLaVA-Video pools them."""

SHOT = 40
"""Frames between two cuts."""


def clip(frames: int, dim: int, share: float, *, seed: int = 0) -> Tensor:
    """(frames, 14, 14, dim) float32 features of which about ``share`` of the edges have a cosine of at least 0.8.

    Every shot is a smooth random field under a static texture, seen through noise that is new in each frame. Texture
    and noise grow from one side of the frame to the other, so calm regions form large communities and restless ones
    fall apart. ``share`` = 1 is a constant scene.
    """
    return _clip(frames, dim, 0.0 if share >= 1 else _amplitude(share), seed)


def similar_share(x: Tensor) -> float:
    """Share of the edges of the grid ``x`` (T, H, W, d) whose cosine is at least 0.8."""
    graph = build_graph(VideoTokens.from_grid(x))
    return graph.prune(0.8).num_edges / graph.num_edges


def _clip(frames: int, dim: int, amplitude: float, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    base = torch.randn(dim, generator=g)
    grain = amplitude * torch.linspace(0.2, 1.8, SIDE)[:, None]
    x = torch.empty(frames, SIDE, SIDE, dim)
    for start in range(0, frames, SHOT):
        shot = x[start : start + SHOT]
        coarse = torch.randn(1, dim, 4, 4, generator=g)
        field = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=True)[0]
        scene = base + (field.permute(1, 2, 0) if amplitude else 0)
        scene = scene + grain * torch.randn(SIDE, SIDE, dim, generator=g)
        for frame in shot:
            frame.copy_(scene + grain * torch.randn(SIDE, SIDE, dim, generator=g))
    return x


@cache
def _amplitude(share: float) -> float:
    low, high = 0.01, 4.0
    for _ in range(12):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if similar_share(_clip(SHOT, 256, middle, 0)) > share else (low, middle)
    return low
