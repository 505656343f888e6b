"""VideoLLaMA 3: grids of any size, from which the model itself may have left out tokens that repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from ..errors import StgraphError
from ..tokens import Grid
from .adapter import Adapter, VideoLayout, vision_block
from .qwen import patch_grids


@dataclass(frozen=True)
class VideoLlama3(Adapter):
    """VideoLLaMA 3: one token for m × m patches of a frame, m for each video; ``video_compression_mask`` is used."""

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The grids in ``video_grid_thw``, which counts patches."""
        grids, merges = patch_grids(inputs), inputs.get("video_merge_sizes")
        if merges is None or len(merges) != len(grids):
            raise StgraphError(
                f"video_merge_sizes must be one number for each of the {len(grids)} videos of video_grid_thw, got "
                f"{None if merges is None else merges.tolist()}; pass all that the processor made"
            )
        layouts = [
            VideoLayout(Grid(t, h // m, w // m), patches=(h, w))
            for (t, h, w), m in zip(grids, merges.tolist(), strict=True)
        ]
        mask = inputs.get("video_compression_mask")
        if mask is None:
            return layouts
        parts = mask.split([layout.grid.size for layout in layouts])
        return [layout._replace(present=part) for layout, part in zip(layouts, parts, strict=True)]

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the last block."""
        return vision_block(model.get_submodule("model.vision_model"))

    def pool(self, model: nn.Module, patches: Tensor, layout: VideoLayout) -> Tensor:
        """Bilinearly, once the m × m patches of each token, which lie together, are in raster order."""
        _, height, width = layout.grid
        merge = cast("tuple[int, int]", layout.patches)[0] // height
        raster = patches.unflatten(1, (height, width, merge, merge)).transpose(2, 3)
        return super().pool(model, raster.flatten(1, 4), layout)
