"""The LLaVA family: a video is its frames' grids, one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ..tokens import Grid
from .adapter import Adapter, VideoLayout, video_pixels, vision_block


@dataclass(frozen=True)
class LlavaOnevision(Adapter):
    """LLaVA-OneVision: the patches of each frame pooled 2 × 2, rounded up, and one newline token after the video."""

    loose: ClassVar[tuple[str, ...]] = ("model.image_newline",)

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The same grid for every video: the processor makes them equally long."""
        videos, frames, *_ = video_pixels(inputs)
        vision = cast(Any, model).config.vision_config
        patches = vision.image_size // vision.patch_size
        side = math.ceil(patches / 2)
        return [VideoLayout(Grid(frames, side, side), "trailing", patches=(patches, patches))] * videos

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the block that ``vision_feature_layer`` names."""
        return feature_block(model)


@dataclass(frozen=True)
class LlavaNextVideo(Adapter):
    """LLaVA-NeXT-Video: the patches of each frame pooled by ``spatial_pool_stride``; no separators."""

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The same grid for every video."""
        videos, frames, *_ = video_pixels(inputs)
        config = cast(Any, model).config
        vision = config.vision_config
        patches = vision.image_size // vision.patch_size
        side = patches // config.spatial_pool_stride
        return [VideoLayout(Grid(frames, side, side), patches=(patches, patches))] * videos

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the block that ``vision_feature_layer`` names."""
        return feature_block(model)

    def pool(self, model: nn.Module, patches: Tensor, layout: VideoLayout) -> Tensor:
        """The mean of each square of patches, whatever ``spatial_pool_mode`` does with the features."""
        grid = patches.unflatten(1, cast("tuple[int, int]", layout.patches)).permute(0, 3, 1, 2)
        return F.avg_pool2d(grid, cast(Any, model).config.spatial_pool_stride).permute(0, 2, 3, 1)


def feature_block(model: nn.Module) -> nn.Module:
    """The attention module of the block of ``model.vision_tower`` whose features a LLaVA model takes."""
    return vision_block(model.get_submodule("model.vision_tower"), cast(Any, model).config.vision_feature_layer)
