"""Video-LLaVA: the grid of each frame behind the [CLS] token of the vision tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from ..tokens import Grid
from .adapter import Adapter, VideoLayout, video_pixels, vision_block


@dataclass(frozen=True)
class VideoLlava(Adapter):
    """Video-LLaVA: one token for each patch, none pooled.

    A frame's [CLS] token is of no place in it, so it is a separator: no vertex of the graph, and among those that stay
    if its frame is among those that keep most.
    """

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The same grid for every video: the processor makes them equally long."""
        videos, frames, _, height, width = video_pixels(inputs)
        patch = cast(Any, model).config.vision_config.patch_size
        grid = Grid(frames, height // patch, width // patch)
        return [VideoLayout(grid, "frame_start", patches=(grid.height, grid.width))] * videos

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the block that ``vision_feature_layer`` names."""
        return vision_block(model.get_submodule("model.video_tower"), cast(Any, model).config.vision_feature_layer)
