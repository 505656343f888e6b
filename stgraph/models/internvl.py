"""InternVL: every frame is an image of one tile, after the words ``Frame1:``, ``Frame2:`` and so on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from .frames import FramesAsImages
from .llava import feature_block


@dataclass(frozen=True)
class InternVL(FramesAsImages):
    """InternVL 2.5 to 3.5: one token for 2 × 2 patches of a frame (``downsample_ratio``)."""

    label = range(5, 13)
    words = re.compile(r"Frame ?(\d+):\s*(?:<[^<>]*>\s*)*$")

    def sides(self, model: nn.Module) -> tuple[int, int]:
        """Pixels along the side of a patch, and patches along the side of a token."""
        config = cast(Any, model).config
        return config.vision_config.patch_size[0], round(1 / config.downsample_ratio)

    def continues(self, text: list[int]) -> bool:
        """The tiles of an image are not divided."""
        return not text

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the block that ``vision_feature_layer`` names."""
        return feature_block(model)
