"""The LLaVA family: a video is its frames' grids, one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from ..tokens import Grid
from .adapter import Adapter, VideoLayout, video_pixels


@dataclass(frozen=True)
class LlavaOnevision(Adapter):
    """LLaVA-OneVision: the patches of each frame pooled 2 × 2, rounded up, and one newline token after the video."""

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The same grid for every video: the processor makes them equally long."""
        videos, frames, *_ = video_pixels(inputs)
        vision = cast(Any, model).config.vision_config
        side = math.ceil(vision.image_size // vision.patch_size / 2)
        return [VideoLayout(Grid(frames, side, side), "trailing")] * videos


@dataclass(frozen=True)
class LlavaNextVideo(Adapter):
    """LLaVA-NeXT-Video: the patches of each frame pooled by ``spatial_pool_stride``; no separators."""

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The same grid for every video."""
        videos, frames, *_ = video_pixels(inputs)
        config = cast(Any, model).config
        vision = config.vision_config
        side = vision.image_size // vision.patch_size // config.spatial_pool_stride
        return [VideoLayout(Grid(frames, side, side))] * videos
