"""Folders of all that makes the inputs of a model: tokenizer, chat template and processor files; and the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .folders import CHAT, special, write_tokenizer
from .zoo import FAMILIES, PATCH, SIDE, Family

PIXELS = {"patch_size": PATCH, "merge_size": 2, "size": {"shortest_edge": 64, "longest_edge": 4096}}
SQUARE = {"height": SIDE, "width": SIDE}
MIDDLE = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}

QWEN_2 = ("Qwen2VLVideoProcessor", "Qwen2VLImageProcessor", PIXELS | {"temporal_patch_size": 2})
QWEN_3 = ("Qwen3VLVideoProcessor", *QWEN_2[1:])
PROCESSORS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "qwen2_vl": ("Qwen2VLProcessor", *QWEN_2),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", *QWEN_2),
    "qwen3_vl": ("Qwen3VLProcessor", *QWEN_3),
    "qwen3_vl_moe": ("Qwen3VLProcessor", *QWEN_3),
    "qwen3_5": ("Qwen3VLProcessor", *QWEN_3),
    "llava_onevision": (
        "LlavaOnevisionProcessor", "LlavaOnevisionVideoProcessor", "LlavaOnevisionImageProcessor", {"size": SQUARE},
    ),
    "llava_next_video": (
        "LlavaNextVideoProcessor", "LlavaNextVideoVideoProcessor", "LlavaNextImageProcessor", MIDDLE,
    ),
    "video_llava": ("VideoLlavaProcessor", "VideoLlavaVideoProcessor", "VideoLlavaImageProcessor", MIDDLE),
    "video_llama_3": ("VideoLlama3Processor", "VideoLlama3VideoProcessor", "VideoLlama3ImageProcessor", PIXELS),
}  # fmt: skip
"""Of each family the processors of everything, videos and images, and their settings."""

WHOLE: dict[str, dict[str, Any]] = {
    "llava_onevision": {"num_image_tokens": (SIDE // PATCH) ** 2, "vision_feature_select_strategy": "full"},
    "llava_next_video": {"patch_size": PATCH},
    "video_llava": {"patch_size": PATCH, "vision_feature_select_strategy": "full"},
}
"""What some processors want to know besides."""


def prompt_folder(path: Path, name: str, **settings: Any) -> Any:
    """Write the folder of a family and return its model; ``settings`` are further ones of the video processor."""
    place = {"video_llama_3": "<|video_pad|>"}.get(name, "<|vision_start|><|video_pad|><|vision_end|>")
    marked = name.startswith(("qwen", "video_llama"))
    write_tokenizer(path, CHAT.replace("VIDEO", place if marked else "<video>"))
    processor, videos, images, pixels = PROCESSORS[name]
    for file, kind in (
        ("video_preprocessor_config.json", {"video_processor_type": videos}),
        ("preprocessor_config.json", {"image_processor_type": images}),
    ):
        (path / file).write_text(json.dumps(pixels | settings | kind | {"processor_class": processor}))
    (path / "processor_config.json").write_text(json.dumps({"processor_class": processor, **WHOLE.get(name, {})}))
    family = FAMILIES[name]
    ids = {"video_token_id": special("<|video_pad|>")} if marked else {"video_token_index": special("<video>")}
    words = {"vocab_size": 288, "eos_token_id": None, "bos_token_id": None, "pad_token_id": 256}
    config = family.config | ids | {"text_config": family.config["text_config"] | words}
    model = Family(family.package, family.prefix, config).build("sdpa")
    model.generation_config.suppress_tokens = list(range(256, 288))
    model.config.save_pretrained(path)
    return model
