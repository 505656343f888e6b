"""NVILA, and the other models with Qwen2 that its authors publish as ``llava_llama`` or ``vila``.

Source: Liu et al., "NVILA: Efficient Frontier Visual Language Models" (2024), and the layout of the published NVILA-8B.
Each frame becomes 32 × 32 patches; the projector merges 2 × 2 of them into one token, and a newline token of the text
vocabulary follows each frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Qwen2Config

from ..errors import StgraphError, check_choice
from ..tokens import Grid, SeparatorLayout
from .checkpoint import find_weights, read_json
from .loading import check_entries, load_tokenizer
from .siglip_qwen import (
    SiglipQwenConfig,
    SiglipQwenForConditionalGeneration,
    SiglipQwenModel,
    Source,
    text_entries,
    text_settings,
    vision_settings,
)

MERGES = {"mlp_downsample": 2, "mlp_downsample_2x2_fix": 2, "mlp_downsample_3x3_fix": 3}
"""Projector -> patches along a side that become one token."""

PARTS = ("llm", "vision_tower", "mm_projector")
"""Folders inside a published one, each with a configuration and weights."""

PREFIXES = (
    ("llm/model.", "model.language_model."),
    ("llm/lm_head.", "lm_head."),
    ("vision_tower/vision_model.", "model.vision_tower."),
    ("mm_projector/layers.", "model.mm_projector."),
)

NO_POOL = (1, 1, 1)


class NvilaConfig(SiglipQwenConfig):
    """Configuration.

    Attributes:
        mm_projector_type: a key of :data:`MERGES`.
        scales: resolutions that the projector was made for. A video has one; its features are repeated for each.
        pool_size: (t, h, w), how many tokens along each axis are averaged.
        frame_end_token_id: of the text token whose embedding follows each frame; None for none.
    """

    model_type = "nvila"

    def __init__(
        self,
        mm_projector_type: str = "mlp_downsample",
        scales: int = 1,
        pool_size: Sequence[int] = NO_POOL,
        frame_end_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("mm_projector_type", mm_projector_type, MERGES)
        self.mm_projector_type = mm_projector_type
        self.scales = scales
        self.pool_size = list(pool_size)
        self.frame_end_token_id = frame_end_token_id
        super().__init__(**kwargs)

    @property
    def separator_layout(self) -> SeparatorLayout:
        """Where newline tokens lie between the tokens of a video."""
        return "none" if self.frame_end_token_id is None else "frame"

    @property
    def merged(self) -> int:
        """Tokens along a side of a frame that leave the projector."""
        return -(-self.patches // MERGES[self.mm_projector_type])

    def token_grid(self, frames: int) -> Grid:
        """Of the tokens that a video of so many frames becomes, newlines not counted.

        Raises:
            StgraphError: the frames or the sides cannot be divided by ``pool_size``.
        """
        grid = (frames, self.merged, self.merged)
        if any(size % pool for size, pool in zip(grid, self.pool_size, strict=True)):
            raise StgraphError(
                f"the model averages {' × '.join(map(str, self.pool_size))} tokens along time, height and width, which "
                f"does not divide {' × '.join(map(str, grid))}; give it a multiple of {self.pool_size[0]} frames"
            )
        return Grid(*(size // pool for size, pool in zip(grid, self.pool_size, strict=True)))


class Merge(nn.Module):
    """Neighbouring patches side by side in one, frames filled up with zeros: (n, side², c) → (n, ⌈side/k⌉², k²·c)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, patches: Tensor) -> Tensor:
        """Merge k × k patches, raster order inside and outside."""
        side, k = round(patches.shape[1] ** 0.5), self.size
        maps = nn.functional.pad(patches.unflatten(1, (side, side)), (0, 0, 0, -side % k, 0, -side % k))
        blocks = maps.unflatten(2, (-1, k)).unflatten(1, (-1, k))  # (n, h, k, w, k, c)
        return cast(Tensor, blocks.transpose(2, 3).flatten(3).flatten(1, 2))


class NvilaModel(SiglipQwenModel):
    """The model without its head."""

    config_class = NvilaConfig

    def projector(self, config: Any) -> nn.Module:
        """Merge patches, then linear layers with GELU between them; 3 × 3 are narrowed in one step more."""
        k = MERGES[config.mm_projector_type]
        seen, width = config.vision_config.hidden_size * config.scales, config.text_config.hidden_size
        layers: list[nn.Module] = [Merge(k), nn.LayerNorm(k * k * seen)]
        if k == 3:
            layers += [nn.Linear(9 * seen, 3 * seen), nn.GELU(), nn.LayerNorm(3 * seen), nn.Linear(3 * seen, width)]
        else:
            layers.append(nn.Linear(k * k * seen, width))
        return nn.Sequential(*layers, nn.GELU(), nn.Linear(width, width))

    def arrange(self, features: Tensor, frames: int) -> Tensor:
        """Project, average over ``pool_size``, and put the newline token after each frame."""
        config = self.config
        time, height, width = config.token_grid(frames)
        t, h, w = config.pool_size
        tokens = self.mm_projector(features.repeat(1, 1, config.scales))
        tokens = tokens.view(-1, time, t, height, h, width, w, tokens.shape[-1]).mean((2, 4, 6)).flatten(2, 3)
        if config.frame_end_token_id is not None:
            place = torch.tensor(config.frame_end_token_id, device=tokens.device)
            end = self.get_input_embeddings()(place).to(tokens)
            tokens = torch.cat([tokens, end.expand(*tokens.shape[:2], 1, -1)], 2)
        return cast(Tensor, tokens.flatten(1, 2))


class NvilaForConditionalGeneration(SiglipQwenForConditionalGeneration):
    """NVILA with its head."""

    config_class = NvilaConfig
    base = NvilaModel


def read_nvila(folder: Path, overrides: Mapping[str, Any] | None = None) -> Source:
    """A published folder of ``LlavaLlamaModel``, with one folder for each part inside.

    The placeholder is one id more than the vocabulary has, for which a row of zeros is appended to the embeddings and
    to the head.

    Args:
        folder: as published.
        overrides: entries that take the place of those of ``config.json``, or of the language model's.

    Raises:
        StgraphError: it is of a kind that cannot be loaded, or files are missing or broken; an override is no entry.
    """
    published, overrides = read_json(folder / "config.json"), dict(overrides or {})
    if missing := [part for part in PARTS if not (folder / part).is_dir()]:
        raise StgraphError(
            f"{folder} has no folder {', '.join(missing)}; a model of this type consists of the folders "
            f"{', '.join(PARTS)}: give the folder that holds them"
        )
    llm, tower, projector = (read_json(folder / part / "config.json") for part in PARTS)
    texts = text_entries()
    check_entries(overrides, {*published, *texts, "video_encoder"}, folder)
    llm |= {name: overrides.pop(name) for name in texts & overrides.keys() - published.keys()}
    published |= overrides
    _check(folder, "the language model", llm.get("model_type"), "qwen2")
    _check(folder, "the vision tower", tower.get("model_type"), "siglip_vision_model")
    _check(folder, "mm_vision_select_layer", published.get("mm_vision_select_layer", -2), -2)
    _check(folder, "mm_vision_select_feature", published.get("mm_vision_select_feature", "cls_patch"), "cls_patch")
    for variant in ("s2", "ps3"):
        _check(folder, variant, bool(published.get(variant)), False)
    text = text_settings(llm)
    pool_size, end = _video_encoder(folder, published.get("video_encoder"))
    config = NvilaConfig(
        vision_config=vision_settings(tower),
        text_config=text | {"vocab_size": Qwen2Config(**text).vocab_size + 1},
        dtype=text["dtype"],
        mm_projector_type=str(projector.get("mm_projector_type")),
        scales=len(published["s2_scales"].split(",")) if published.get("dynamic_s2") else 1,
        pool_size=pool_size,
        frame_end_token_id=end,
    )
    weights = {f"{part}/{key}": weight for part in PARTS for key, weight in find_weights(folder / part).items()}
    return Source(folder, config, weights, PREFIXES, ("llm/model.embed_tokens.weight", "llm/lm_head.weight"))


def _check(folder: Path, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise StgraphError(
            f"{what} of {folder} is {found!r}, and only {wanted!r} can be loaded; give NVILA-8B or a model of the same "
            "form"
        )


def _video_encoder(folder: Path, published: str | Mapping[str, Any] | None) -> tuple[Sequence[int], int | None]:
    """How much is averaged, and the id of the token that follows each frame."""
    try:
        settings = json.loads(published) if isinstance(published, str) else dict(published or {})
    except ValueError as error:
        raise StgraphError(f"the video_encoder of {folder} is not JSON: {published!r}; download it again") from error
    sizes = settings.get("pool_sizes") or [NO_POOL]
    if len(sizes) != 1 or settings.get("start_tokens") or settings.get("sep_tokens"):
        raise StgraphError(
            f"the video_encoder of {folder} is {settings}, and only one pool size without start_tokens and sep_tokens "
            "can be loaded; give NVILA-8B or a model of the same form"
        )
    end = settings.get("end_tokens", "\n")
    if not end:
        return sizes[0], None
    ids = load_tokenizer(folder, Qwen2Config())(end, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise StgraphError(
            f"each frame ends with {end!r}, which the tokenizer in {folder / 'llm'} splits into {len(ids)} tokens; "
            "expected one token: give NVILA-8B or a model of the same form"
        )
    return sizes[0], ids[0]
