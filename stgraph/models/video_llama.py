"""VideoLLaMA 3: grids of any size, from which the model itself may have left out tokens that repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..tokens import Grid
from .adapter import Adapter, VideoLayout
from .qwen import patch_grids


@dataclass(frozen=True)
class VideoLlama3(Adapter):
    """VideoLLaMA 3: one token for m × m patches of a frame, m for each video; ``video_compression_mask`` is heeded."""

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The grids in ``video_grid_thw``, which counts patches."""
        merges = inputs["video_merge_sizes"].tolist()
        grids = [Grid(t, h // m, w // m) for (t, h, w), m in zip(patch_grids(inputs), merges, strict=True)]
        mask = inputs.get("video_compression_mask")
        if mask is None:
            return [VideoLayout(grid) for grid in grids]
        parts = mask.split([grid.size for grid in grids])
        return [VideoLayout(grid, present=part) for grid, part in zip(grids, parts, strict=True)]
