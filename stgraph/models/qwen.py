"""The Qwen-VL family: grids of any size, given with the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from ..errors import StgraphError
from ..tokens import Grid
from .adapter import Adapter, VideoLayout


@dataclass(frozen=True)
class QwenVL(Adapter):
    """Qwen2-VL and Qwen2.5-VL: one token for m × m patches of two frames."""

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The grids in ``video_grid_thw``, which counts patches."""
        merge = cast(Any, model).config.vision_config.spatial_merge_size
        return [VideoLayout(Grid(t, h // merge, w // merge)) for t, h, w in patch_grids(inputs)]


def patch_grids(inputs: Mapping[str, Any]) -> list[list[int]]:
    """(T, H, W) of every video in patches, from ``video_grid_thw``."""
    grids = inputs.get("video_grid_thw")
    if grids is None:
        raise StgraphError("video_grid_thw is missing beside pixel_values_videos; pass all that the processor made")
    return cast("list[list[int]]", grids.tolist())


@dataclass(frozen=True)
class Qwen3VL(QwenVL):
    """Qwen3-VL, dense and mixture of experts: timestamps between the frames, deepstack features in the first layers."""

    def first_layer(self, model: nn.Module) -> int:
        """Past the layers that deepstack features are added after, to tokens that must all be there."""
        return max(1, len(cast(Any, model).config.vision_config.deepstack_visual_indexes))
