"""A loaded vision tower: frames in, features and attention of one block out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import StgraphError
from .attention import AttentionWatch, received, resized
from .hf_families import Family, side_of

FREE_SIZE = 448
"""Side in pixels of the square whose area a frame fills, for towers that take any size and name none themselves."""


class Preparation(NamedTuple):
    """How 8-bit pixels are made ready: resized with a filter of Pillow, then (scale · pixel − mean) / std."""

    resample: Image.Resampling
    scale: float
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, settings: dict[str, Any], family: Family) -> Preparation:
        """From a preprocessor configuration; ``family`` gives what it does not say."""

        def channels(name: str, default: tuple[float, float, float]) -> Tensor:
            return torch.tensor(settings.get(name, default), dtype=torch.float32).view(-1, 1, 1).expand(3, 1, 1)

        normalise = settings.get("do_normalize", True)
        return cls(
            Image.Resampling(settings.get("resample", family.resample)),
            float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
            channels("image_mean", family.mean) if normalise else torch.zeros(3, 1, 1, dtype=torch.float32),
            channels("image_std", family.std) if normalise else torch.ones(3, 1, 1, dtype=torch.float32),
        )


@dataclass(frozen=True, eq=False)
class Tower:
    """A loaded tower, cut off after ``block``, and how its frames are prepared."""

    module: nn.Module
    block: nn.Module
    config: Any
    family: Family
    preparation: Preparation

    def encode(self, frames: Tensor, size: int | None, pool: int, *, attention: bool) -> tuple[Tensor, ...]:
        """Features of (B, 3, H, W) uint8 frames, (B, h, w, d); with ``attention``, then attention and keys too."""
        parameter = next(self.module.parameters())
        pixels = self.pixels(frames, size).to(parameter.device, parameter.dtype)
        inputs, order = self.family.feed(pixels, self.config)
        patch = side_of(self.config.patch_size)
        height, width = pixels.shape[2] // patch, pixels.shape[3] // patch
        with _Recorder(self.block, height * width, attention=attention) as record:
            self.module(**inputs)

        def grid(rows: Tensor) -> Tensor:
            # [CLS] and register tokens come first in the sequence of a tower.
            rows = rows.reshape(len(frames), -1, rows.shape[-1])[:, -height * width :]
            rows = rows if order is None else rows[:, order.argsort()]
            rows = rows.reshape(len(frames), height, width, -1)
            return resized(rows, math.ceil(height / pool), math.ceil(width / pool))

        recorded = (
            [record.output, torch.cat(record.attention), torch.cat(record.keys)] if attention else [record.output]
        )
        return tuple(grid(rows) for rows in recorded)

    def pixels(self, frames: Tensor, size: int | None) -> Tensor:
        """(B, 3, H, W) uint8 frames resized, rescaled and normalised: (B, 3, H', W') float32."""
        height, width = self.frame_size(frames.shape[2], frames.shape[3], size)
        pictures = [Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())) for frame in frames]
        resized = np.stack([np.asarray(p.resize((width, height), self.preparation.resample)) for p in pictures])
        pixels = torch.from_numpy(resized).permute(0, 3, 1, 2) * self.preparation.scale
        return (pixels - self.preparation.mean) / self.preparation.std

    def frame_size(self, height: int, width: int, size: int | None) -> tuple[int, int]:
        """Height and width in pixels to which a frame is resized."""
        patch = side_of(self.config.patch_size)
        own = getattr(self.config, "image_size", None)
        if own is None and hasattr(self.config, "num_patches"):
            own = math.isqrt(self.config.num_patches) * patch
        side = size or side_of(own or FREE_SIZE)
        unit = patch * getattr(self.config, "spatial_merge_size", 1)
        if side < unit:
            raise StgraphError(f"encoder.size must be at least {unit}, the side of one patch of the tower, got {size}")
        if not self.family.any_size:
            return side, side
        scale = side / math.sqrt(height * width)
        return max(1, round(height * scale / unit)) * unit, max(1, round(width * scale / unit)) * unit


class _Recorder(AttentionWatch):
    """While entered, notes the output of one block and the attention inside it.

    The two hooks go when it is left, also by an exception.
    """

    def __init__(self, block: nn.Module, patches: int, *, attention: bool) -> None:
        super().__init__()
        self.output = torch.empty(0)
        self.attention: list[Tensor] = []
        self.keys: list[Tensor] = []
        self._block, self._patches, self._wanted, self._inside = block, patches, attention, False

    def __enter__(self) -> _Recorder:
        self._hooks = [
            self._block.register_forward_pre_hook(self._enter),
            self._block.register_forward_hook(self._leave),
        ]
        return cast(_Recorder, super().__enter__())  # type: ignore[no-untyped-call]

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def _enter(self, block: nn.Module, inputs: object) -> None:
        self._inside = self._wanted

    def _leave(self, block: nn.Module, inputs: object, output: Any) -> None:
        self._inside, self.output = False, output[0] if isinstance(output, tuple) else output

    def meet(self, query: Tensor, key: Tensor, scale: float) -> None:
        """Note the attention, where it is the block's."""
        if self._inside:
            self.attention.append(received(query, key, scale, self._patches).reshape(-1, 1))
            self.keys.append(key.float().mean(1).flatten(0, 1))
