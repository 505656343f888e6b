"""Tiny random models of every family that the ``hf`` encoder reads, saved to a folder as transformers saves them.

For each there is an independent account of how it sees frames: its inputs made by transformers' own image processors
where these take frames apart, and the raster position of each patch in its sequence spelt out in loops.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PATCH = 4
GRID = (6, 10)
"""Grid of a 24 × 40 frame, for towers that take any size; no multiple of the attention windows of Qwen2.5-VL."""
SIDE = 31
"""``HuggingFace.size`` that leaves a 24 × 40 frame as it is."""
IMAGE = 24
"""Side of a frame, for towers that want a square."""

CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5] * 3, [0.5] * 3)

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": PATCH,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROTARY_TEXT = TEXT | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
IDS = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6}
QWEN: dict[str, Any] = {"depth": 3, "num_heads": 4, "patch_size": PATCH}


@dataclass(frozen=True)
class Tower:
    """How to build a tiny model, and how its tower sees frames."""

    package: str
    config: str
    model: str
    arguments: dict[str, Any]
    tower: str = ""
    leading: int = 0
    normal: tuple[list[float], list[float]] = HALF
    inputs: Callable[[Tensor], dict[str, Tensor]] | None = None
    order: Callable[[int, int], list[tuple[int, int]]] | None = None
    layer: int = -2

    @property
    def any_size(self) -> bool:
        return self.inputs is not None

    @property
    def grid(self) -> tuple[int, int]:
        return GRID if self.any_size else (IMAGE // PATCH, IMAGE // PATCH)

    @property
    def frame_size(self) -> tuple[int, int]:
        return self.grid[0] * PATCH, self.grid[1] * PATCH

    def save(self, folder: Path) -> None:
        """Write the whole model with random weights, large enough that attention is far from uniform."""
        configuration = getattr(importlib.import_module(f"{self._module}.configuration_{self.package}"), self.config)
        model = self._class(configuration(**self.arguments))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.2, generator=generator)
        model.save_pretrained(folder)

    def load(self, folder: Path, attention: str) -> torch.nn.Module:
        """The tower inside the whole model as transformers itself loads it."""
        model = self._class.from_pretrained(folder, attn_implementation=attention).eval()
        return attrgetter(self.tower)(model) if self.tower else model

    def feed(self, frames: Tensor) -> dict[str, Tensor]:
        """Inputs of the tower for (B, 3, H, W) uint8 frames of ``frame_size``."""
        if self.inputs is not None:
            return self.inputs(frames)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in self.normal)
        return {"pixel_values": (frames / 255 - mean) / std}

    def raster(self, sequence: Tensor, frames: int) -> Tensor:
        """(B, h, w, d) from what the tower gives for each place of its sequence."""
        height, width = self.grid
        sequence = sequence.reshape(frames, -1, sequence.shape[-1])[:, self.leading :]
        assert sequence.shape[1] == height * width
        places = self.order(height, width) if self.order else [(y, x) for y in range(height) for x in range(width)]
        grid = torch.full((frames, height, width, sequence.shape[-1]), float("nan"))
        for index, (y, x) in enumerate(places):
            grid[:, y, x] = sequence[:, index]
        return grid

    @property
    def _module(self) -> str:
        return f"transformers.models.{self.package}"

    @property
    def _class(self) -> Any:
        return getattr(importlib.import_module(f"{self._module}.modeling_{self.package}"), self.model)


def merge_order(height: int, width: int) -> list[tuple[int, int]]:
    """Patches in the order of Qwen-VL: 2 × 2 neighbours together."""
    return [(y + i, x + j) for y in range(0, height, 2) for x in range(0, width, 2) for i in (0, 1) for j in (0, 1)]


def window_order(height: int, width: int) -> list[tuple[int, int]]:
    """Patches in the order of Qwen2.5-VL with windows of 4 × 4 patches, cut off at the border."""
    places = []
    for top in range(0, height, 4):
        for left in range(0, width, 4):
            inside = merge_order(min(4, height - top), min(4, width - left))
            places += [(top + y, left + x) for y, x in inside]
    return places


def qwen_inputs(normal: tuple[list[float], list[float]]) -> Callable[[Tensor], dict[str, Tensor]]:
    def inputs(frames: Tensor) -> dict[str, Tensor]:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        processor = Qwen2VLImageProcessorPil(
            patch_size=PATCH,
            merge_size=2,
            temporal_patch_size=2,
            size={"shortest_edge": 1, "longest_edge": 10**6},
            image_mean=normal[0],
            image_std=normal[1],
        )
        made = processor(images=list(frames.numpy()), return_tensors="pt", input_data_format="channels_first")
        return {"hidden_states": made["pixel_values"], "grid_thw": made["image_grid_thw"]}

    return inputs


def video_llama_inputs(frames: Tensor) -> dict[str, Tensor]:
    from transformers.models.video_llama_3.image_processing_pil_video_llama_3 import VideoLlama3ImageProcessorPil

    processor = VideoLlama3ImageProcessorPil(
        patch_size=PATCH, merge_size=1, temporal_patch_size=1, size={"shortest_edge": 1, "longest_edge": 10**6}
    )
    made = processor(images=list(frames.numpy()), return_tensors="pt", input_data_format="channels_first")
    return {
        "pixel_values": made["pixel_values"],
        "grid_thw": made["image_grid_thw"],
        "merge_sizes": torch.ones(len(frames), dtype=torch.int64),
    }


def siglip2_inputs(frames: Tensor) -> dict[str, Tensor]:
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    processor = Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=GRID[0] * GRID[1])
    made = processor(images=list(frames.numpy()), return_tensors="pt", input_data_format="channels_first")
    return dict(made)


CLIP_VISION = SIZES | {"image_size": IMAGE, "model_type": "clip_vision_model"}
SIGLIP_VISION = SIZES | {"image_size": IMAGE, "model_type": "siglip_vision_model"}
QWEN_25 = QWEN | {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32}
QWEN_3 = QWEN_25 | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}

TOWERS = {
    "clip": Tower("clip", "CLIPVisionConfig", "CLIPVisionModel", CLIP_VISION, leading=1, normal=CLIP),
    "clip whole": Tower(
        "clip", "CLIPConfig", "CLIPModel", {"vision_config": CLIP_VISION, "text_config": TEXT}, "vision_model", 1, CLIP
    ),
    "siglip": Tower("siglip", "SiglipVisionConfig", "SiglipVisionModel", SIGLIP_VISION),
    "siglip whole": Tower(
        "siglip", "SiglipConfig", "SiglipModel", {"vision_config": SIGLIP_VISION, "text_config": TEXT}, "vision_model"
    ),
    "siglip2": Tower(
        "siglip2", "Siglip2VisionConfig", "Siglip2VisionModel", SIZES | {"num_patches": 36}, inputs=siglip2_inputs
    ),
    "vit": Tower("vit", "ViTConfig", "ViTModel", SIZES | {"image_size": IMAGE}, leading=1),
    "vit classifier": Tower(
        "vit", "ViTConfig", "ViTForImageClassification", SIZES | {"image_size": IMAGE}, "vit", leading=1
    ),
    "dinov2": Tower("dinov2", "Dinov2Config", "Dinov2Model", SIZES | {"image_size": IMAGE}, "", 1, IMAGENET),
    "dinov2 registers": Tower(
        "dinov2_with_registers",
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        SIZES | {"image_size": IMAGE, "num_register_tokens": 3},
        leading=4,
        normal=IMAGENET,
    ),
    "dinov3": Tower(
        "dinov3_vit",
        "DINOv3ViTConfig",
        "DINOv3ViTModel",
        SIZES | {"image_size": IMAGE, "num_register_tokens": 4},
        leading=5,
        normal=IMAGENET,
    ),
    "llava onevision": Tower(
        "llava_onevision",
        "LlavaOnevisionConfig",
        "LlavaOnevisionForConditionalGeneration",
        {"vision_config": SIGLIP_VISION, "text_config": TEXT | {"model_type": "qwen2"}, "vision_feature_layer": -1},
        "model.vision_tower",
        layer=-1,
    ),
    "llava next video": Tower(
        "llava_next_video",
        "LlavaNextVideoConfig",
        "LlavaNextVideoForConditionalGeneration",
        {"vision_config": CLIP_VISION, "text_config": TEXT | {"model_type": "llama"}, "image_token_index": 3},
        "model.vision_tower",
        1,
        CLIP,
    ),
    "video llava": Tower(
        "video_llava",
        "VideoLlavaConfig",
        "VideoLlavaForConditionalGeneration",
        {"vision_config": CLIP_VISION, "text_config": TEXT | {"model_type": "llama"}},
        "model.video_tower",
        1,
        CLIP,
    ),
    "internvl": Tower(
        "internvl",
        "InternVLConfig",
        "InternVLForConditionalGeneration",
        {
            "vision_config": SIZES | {"image_size": [IMAGE, IMAGE], "patch_size": [PATCH, PATCH]},
            "text_config": TEXT | {"model_type": "qwen2"},
        },
        "model.vision_tower",
        1,
        IMAGENET,
        layer=-1,
    ),
    "idefics3": Tower(
        "idefics3",
        "Idefics3Config",
        "Idefics3ForConditionalGeneration",
        {"vision_config": SIZES | {"image_size": IMAGE}, "text_config": TEXT | {"model_type": "llama"}},
        "model.vision_model",
        layer=-1,
    ),
    "smolvlm": Tower(
        "smolvlm",
        "SmolVLMConfig",
        "SmolVLMForConditionalGeneration",
        {"vision_config": SIZES | {"image_size": IMAGE}, "text_config": TEXT | {"model_type": "llama"}},
        "model.vision_model",
        layer=-1,
    ),
    "video llama 3": Tower(
        "video_llama_3",
        "VideoLlama3Config",
        "VideoLlama3ForConditionalGeneration",
        {"vision_config": SIZES, "text_config": TEXT | {"model_type": "qwen2"}},
        "model.vision_model",
        inputs=video_llama_inputs,
        layer=-1,
    ),
    "qwen2 vl": Tower(
        "qwen2_vl",
        "Qwen2VLConfig",
        "Qwen2VLForConditionalGeneration",
        {"vision_config": QWEN | {"embed_dim": 32, "hidden_size": 32}, "text_config": ROTARY_TEXT} | IDS,
        "model.visual",
        inputs=qwen_inputs(CLIP),
        order=merge_order,
        layer=-1,
    ),
    "qwen2.5 vl": Tower(
        "qwen2_5_vl",
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        {
            "vision_config": QWEN_25 | {"window_size": 4 * PATCH, "fullatt_block_indexes": [2]},
            "text_config": ROTARY_TEXT,
        }
        | IDS,
        "model.visual",
        inputs=qwen_inputs(CLIP),
        order=window_order,
        layer=-1,
    ),
    "qwen3 vl": Tower(
        "qwen3_vl",
        "Qwen3VLConfig",
        "Qwen3VLForConditionalGeneration",
        {"vision_config": QWEN_3, "text_config": ROTARY_TEXT | {"head_dim": 16}} | IDS,
        "model.visual",
        inputs=qwen_inputs(HALF),
        order=merge_order,
        layer=-1,
    ),
    "qwen3 vl moe": Tower(
        "qwen3_vl_moe",
        "Qwen3VLMoeConfig",
        "Qwen3VLMoeForConditionalGeneration",
        {
            "vision_config": QWEN_3,
            "text_config": ROTARY_TEXT
            | {"head_dim": 16, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
        }
        | IDS,
        "model.visual",
        inputs=qwen_inputs(HALF),
        order=merge_order,
        layer=-1,
    ),
    "qwen3.5": Tower(
        "qwen3_5",
        "Qwen3_5Config",
        "Qwen3_5ForConditionalGeneration",
        {
            "vision_config": QWEN_25 | {"num_position_embeddings": 16},
            "text_config": ROTARY_TEXT
            | {
                "head_dim": 16,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
            },
        }
        | IDS,
        "model.visual",
        inputs=qwen_inputs(HALF),
        order=merge_order,
        layer=-1,
    ),
}
