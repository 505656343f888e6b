"""Families whose every frame becomes the same grid of tokens, which their configuration tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from .adapter import Adapter, VideoLayout, video_pixels, vision_block


@dataclass(frozen=True)
class LlavaVideo(Adapter):
    """LLaVA-Video: the patches of each frame pooled, and by default a newline token after each row."""

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[VideoLayout]:
        """The same grid for every video, because they come in one tensor."""
        videos, frames, *_ = video_pixels(inputs)
        config = cast(Any, model).config
        grid = config.token_grid(frames)
        patches = (config.patches, config.patches) if grid.frames == frames else None
        return [VideoLayout(grid, config.separator_layout, patches=patches)] * videos

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the last block that is used."""
        return vision_block(model.get_submodule("model.vision_tower"))


@dataclass(frozen=True)
class Nvila(LlavaVideo):
    """NVILA: neighbouring patches of each frame merged, and by default a newline token after each frame."""

    def pool(self, model: nn.Module, patches: Tensor, layout: VideoLayout) -> Tensor:
        """The mean of the patches that become one token."""
        maps = patches.unflatten(1, cast("tuple[int, int]", layout.patches)).permute(0, 3, 1, 2)
        return F.adaptive_avg_pool2d(maps, (layout.grid.height, layout.grid.width)).permute(0, 2, 3, 1)
