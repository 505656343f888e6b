"""The Qwen-VL family: grids of any size, given with the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from .. import compat
from ..errors import StgraphError
from ..tokens import Grid
from .adapter import Adapter, VideoLayout, vision_block


@dataclass(frozen=True)
class QwenVL(Adapter):
    """Qwen2-VL: one token for m × m patches of two frames."""

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The grids in ``video_grid_thw``, which counts patches."""
        merge = cast(Any, model).config.vision_config.spatial_merge_size
        return [VideoLayout(Grid(t, h // merge, w // merge), patches=(h, w)) for t, h, w in patch_grids(inputs)]

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the last block."""
        return vision_block(model.get_submodule("model.visual"))

    def pool(self, model: nn.Module, patches: Tensor, layout: VideoLayout) -> Tensor:
        """The mean of the m × m patches of each token, which lie together."""
        _, height, width = layout.grid
        tokens: Tensor = patches.unflatten(1, (height, width, -1)).mean(3)
        return tokens


@dataclass(frozen=True)
class WindowedQwenVL(QwenVL):
    """Qwen2.5-VL: the same with a tower that sorts its merged patches by attention window."""

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the last block that attends to the whole frame, not to windows of it."""
        full = cast(Any, model).config.vision_config.fullatt_block_indexes
        return vision_block(model.get_submodule("model.visual"), max(full) + 1)

    def pool(self, model: nn.Module, patches: Tensor, layout: VideoLayout) -> Tensor:
        """The mean of the m × m patches of each token, back in raster order."""
        window = compat.window_order(cast("tuple[int, int]", layout.patches), cast(Any, model).config.vision_config)
        merged = patches.unflatten(1, (len(window), -1))
        return super().pool(model, merged[:, window.argsort().to(merged.device)].flatten(1, 2), layout)


def patch_grids(inputs: Mapping[str, Any]) -> list[list[int]]:
    """(T, H, W) of every video in patches, from ``video_grid_thw``."""
    grids, pixels = inputs.get("video_grid_thw"), inputs["pixel_values_videos"]
    if grids is None:
        raise StgraphError("video_grid_thw is missing beside pixel_values_videos; pass all that the processor made")
    patches = int(grids.prod(1).sum())
    if pixels.ndim != 2 or len(pixels) != patches:
        raise StgraphError(
            f"pixel_values_videos must be ({patches}, values of a patch) for the patches that video_grid_thw counts, "
            f"got {tuple(pixels.shape)}; pass both as the processor made them"
        )
    return cast("list[list[int]]", grids.tolist())


@dataclass(frozen=True)
class Qwen3VL(QwenVL):
    """Qwen3-VL, dense and mixture of experts: timestamps between the frames, deepstack features in the first layers."""

    def deepstack_layers(self, model: nn.Module) -> int:
        """One for each block of the tower that gives features."""
        return len(cast(Any, model).config.vision_config.deepstack_visual_indexes)
