"""LLaVA-Video, and the other models that its authors publish as ``LlavaQwenForCausalLM``.

Source: Zhang et al., "LLaVA-Video: Video Instruction Tuning With Synthetic Data" (2024), and the layout of the
published LLaVA-Video-7B-Qwen2. Each frame becomes 27 × 27 patches, pooled to 14 × 14 tokens, with a newline token after
each row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import compat
from ..errors import StgraphError, check_choice
from ..tokens import Grid, SeparatorLayout
from .checkpoint import find_weights, read_json
from .loading import check_entries
from .siglip_qwen import (
    SiglipQwenConfig,
    SiglipQwenForConditionalGeneration,
    SiglipQwenModel,
    Source,
    text_entries,
    text_settings,
    vision_settings,
)

NEWLINES: dict[str, SeparatorLayout] = {"grid": "row", "frame": "frame", "one_token": "trailing", "no_token": "none"}
"""``mm_newline_position`` -> where newline tokens lie."""

VIDEO_STRIDE = 2
"""By how much the original code shrinks the sides of a video's frames, whatever the configuration says."""

POOLS = ("bilinear", "average", "max")

PREFIXES = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.mm_projector.", "model.mm_projector."),
    ("model.image_newline", "model.image_newline"),
    ("model.", "model.language_model."),
)


class LlavaVideoConfig(SiglipQwenConfig):
    """Configuration in the words of the published one.

    Attributes:
        mm_projector_type: ``mlp2x_gelu``, or another number of layers.
        mm_spatial_pool_mode: how patches are pooled: ``bilinear`` (to sides rounded up), ``average`` or ``max``.
        mm_spatial_pool_stride: by how much a side shrinks.
        mm_newline_position: where newline tokens stand: ``grid`` (after each row), ``frame``, ``one_token`` (after the
            video) or ``no_token``.
        add_time_instruction: tell the model the length of the video and the times of its frames.
    """

    model_type = "llava_video"

    def __init__(
        self,
        mm_projector_type: str = "mlp2x_gelu",
        mm_spatial_pool_mode: str = "bilinear",
        mm_spatial_pool_stride: int = 2,
        mm_newline_position: str = "grid",
        add_time_instruction: bool = True,
        **kwargs: Any,
    ) -> None:
        check_choice("mm_spatial_pool_mode", mm_spatial_pool_mode, POOLS)
        check_choice("mm_newline_position", mm_newline_position, NEWLINES)
        self.mm_projector_type = mm_projector_type
        self.mm_spatial_pool_mode = mm_spatial_pool_mode
        self.mm_spatial_pool_stride = mm_spatial_pool_stride
        self.mm_newline_position = mm_newline_position
        self.add_time_instruction = add_time_instruction
        super().__init__(**kwargs)

    @property
    def separator_layout(self) -> SeparatorLayout:
        """Where newline tokens lie between the tokens of a video."""
        return NEWLINES[self.mm_newline_position]

    def token_grid(self, frames: int) -> Grid:
        """Of the tokens that a video of so many frames becomes, newlines not counted."""
        shrunk = self.patches / self.mm_spatial_pool_stride
        side = math.ceil(shrunk) if self.mm_spatial_pool_mode == "bilinear" else math.floor(shrunk)
        return Grid(frames, side, side)


class LlavaVideoModel(SiglipQwenModel):
    """The model without its head."""

    config_class = LlavaVideoConfig

    def __init__(self, config: LlavaVideoConfig) -> None:
        super().__init__(config)
        self.image_newline = nn.Parameter(torch.zeros(config.text_config.hidden_size))

    def projector(self, config: Any) -> nn.Module:
        """Linear layers with GELU between them."""
        depth = re.fullmatch(r"mlp([1-9])x_gelu", config.mm_projector_type)
        if depth is None:
            raise StgraphError(
                "mm_projector_type must be mlpNx_gelu with a number N, such as mlp2x_gelu, got "
                f"{config.mm_projector_type!r}; no other projector can be loaded"
            )
        width = config.text_config.hidden_size
        layers: list[nn.Module] = [nn.Linear(config.vision_config.hidden_size, width)]
        for _ in range(int(depth[1]) - 1):
            layers += [nn.GELU(), nn.Linear(width, width)]
        return nn.Sequential(*layers)

    def arrange(self, features: Tensor, frames: int) -> Tensor:
        """Project, pool, and put the newline token after each row (or frame, or video)."""
        config = self.config
        _, height, width = config.token_grid(frames)
        maps = self.mm_projector(features).unflatten(1, (config.patches, config.patches)).permute(0, 3, 1, 2)
        if config.mm_spatial_pool_stride > 1:
            if config.mm_spatial_pool_mode == "bilinear":
                maps = F.interpolate(maps, (height, width), mode="bilinear")
            else:
                pool = F.avg_pool2d if config.mm_spatial_pool_mode == "average" else F.max_pool2d
                maps = pool(maps, config.mm_spatial_pool_stride)
        tokens = maps.permute(0, 2, 3, 1).unflatten(0, (-1, frames))  # (videos, T, H, W, d)
        if config.mm_newline_position == "grid":
            return self._newline_after(tokens).flatten(1, 3)
        if config.mm_newline_position == "frame":
            return self._newline_after(tokens.flatten(2, 3)).flatten(1, 2)
        tokens = tokens.flatten(1, 3)
        return self._newline_after(tokens) if config.mm_newline_position == "one_token" else tokens

    def _newline_after(self, tokens: Tensor) -> Tensor:
        """One more entry in the last but one dimension."""
        newline = compat.parameter_of(self, "image_newline").to(tokens)
        return torch.cat([tokens, newline.expand(*tokens.shape[:-2], 1, -1)], -2)


class LlavaVideoForConditionalGeneration(SiglipQwenForConditionalGeneration):
    """LLaVA-Video with its head."""

    config_class = LlavaVideoConfig
    base = LlavaVideoModel


WORDS = (
    *("mm_projector_type", "mm_spatial_pool_mode", "mm_spatial_pool_stride", "mm_newline_position"),
    "add_time_instruction",
)
"""Entries of a published configuration that are also entries of ours."""


def read_llava_video(folder: Path, overrides: Mapping[str, Any] | None = None) -> Source:
    """A published folder of ``LlavaQwenForCausalLM``, whose ``model_type`` is ``llava`` or ``llava_qwen``.

    What the original code does by itself is kept: videos are pooled by 2 whatever ``mm_spatial_pool_stride`` says, a
    missing ``mm_newline_position`` means ``one_token``, and newlines are there only where ``mm_patch_merge_type`` is
    spatial (after the whole video only where it says "unpad").

    Args:
        folder: as published.
        overrides: entries that take the place of published ones. Here ``mm_spatial_pool_stride`` counts.

    Raises:
        StgraphError: it is of a kind that cannot be loaded, or files are missing or broken; an override is no entry.
    """
    published, overrides = read_json(folder / "config.json"), dict(overrides or {})
    known = published.keys() | set(WORDS) | {"vision_config", "mm_patch_merge_type"} | text_entries()
    check_entries(overrides, known, folder)
    published |= {"mm_spatial_pool_stride": VIDEO_STRIDE} | overrides
    if published.get("add_faster_video"):
        raise StgraphError(
            f"{folder} is a slow-fast model (add_faster_video), which is not supported; give one that encodes every "
            "frame the same way, such as LLaVA-Video-7B-Qwen2"
        )
    newline = published.get("mm_newline_position") or "one_token"
    merge = str(published.get("mm_patch_merge_type") or "flat")
    if not merge.startswith("spatial") or (newline == "one_token" and "unpad" not in merge):
        newline = "no_token"
    text = text_settings(published)
    words = {word: published[word] for word in WORDS if published.get(word) is not None}
    config = LlavaVideoConfig(
        vision_config=vision_settings(published.get("vision_config", {})),
        text_config=text,
        dtype=text["dtype"],
        **words | {"mm_newline_position": newline},
    )
    return Source(folder, config, find_weights(folder), PREFIXES)
