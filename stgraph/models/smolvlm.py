"""SmolVLM: every frame is an image of one tile, after its timestamp."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from .adapter import vision_block
from .frames import FramesAsImages


@dataclass(frozen=True)
class SmolVLM(FramesAsImages):
    """SmolVLM 2: one token for ``scale_factor`` × ``scale_factor`` patches of a frame."""

    label = range(8, 21)
    words = re.compile(r"Frame from (\d+) ?: ?(\d+) ?:?\s*(?:<[^<>]*>\s*)*$")

    def sides(self, model: nn.Module) -> tuple[int, int]:
        """Pixels along the side of a patch, and patches along the side of a token."""
        config = cast(Any, model).config
        return config.vision_config.patch_size, config.scale_factor

    def continues(self, text: list[int]) -> bool:
        """Each part of an image is opened by two marks, and only the last, the whole image, is closed by the first."""
        return len(text) <= 2 or (len(text) < self.label.start and text[0] != text[-2])

    def vision_attention(self, model: nn.Module) -> nn.Module:
        """Of the last block."""
        return vision_block(model.get_submodule("model.vision_model"))

    def language_model(self, model: nn.Module) -> nn.Module:
        """The text model."""
        return model.get_submodule("model.text_model")
