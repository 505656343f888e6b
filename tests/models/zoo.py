"""Tiny video LLMs with random weights, prompts for them, and what they would say with tokens masked, not dropped."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stgraph.compat import cache_name, cache_of

__all__ = ["cache_of"]

CACHE = cache_name()
"""The name under which the installed transformers takes a cache."""

IMAGE, VIDEO, START, END, PAD = 3, 4, 5, 6, 0
PATCH, SIDE = 4, 16
LAYERS = 4

VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": PATCH,
}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 63,
    "tie_word_embeddings": False,
}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
IDS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END}
QWEN_VISION: dict[str, Any] = {"depth": 3, "num_heads": 2, "patch_size": PATCH, "intermediate_size": 32}
QWEN_2 = {"vision_config": QWEN_VISION | {"embed_dim": 32, "hidden_size": 32}, "text_config": TEXT | MROPE} | IDS
QWEN_25 = {
    "vision_config": QWEN_VISION
    | {"hidden_size": 32, "out_hidden_size": 32, "window_size": 4 * PATCH, "fullatt_block_indexes": [2]},
    "text_config": TEXT | MROPE,
} | IDS
QWEN_3 = {
    "vision_config": QWEN_VISION
    | {
        "hidden_size": 32,
        "out_hidden_size": 32,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1, 2],
    },
    "text_config": TEXT | MROPE,
} | IDS
VLIDS = {"image_token_id": IMAGE, "video_token_id": VIDEO}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}


@dataclass(frozen=True)
class Family:
    """How to build a tiny model of a family."""

    package: str
    prefix: str
    config: dict[str, Any]
    timestamps: bool = False
    label: int = 0
    """Tokens of text beside the number that a frame is named by, for families that take frames as images."""

    @property
    def grids(self) -> bool:
        """Whether videos come as patches with their grid."""
        return self.prefix.startswith(("Qwen", "Glm", "VideoLlama"))

    @property
    def pixels(self) -> str:
        """The argument that videos come in."""
        return "pixel_values" if self.label else "pixel_values_videos"

    @property
    def module(self) -> str:
        """Where its classes are."""
        ours = self.package in ("llava_video", "nvila")
        return f"stgraph.models.{self.package}" if ours else f"transformers.models.{self.package}"

    def build(self, attention: str) -> Any:
        module = importlib.import_module(self.module)
        made = getattr(module, f"{self.prefix}Config")(**copy.deepcopy(self.config))  # some write into it
        made._attn_implementation = attention
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            model = getattr(module, f"{self.prefix}ForConditionalGeneration")(made).eval()
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.2)
        model.generation_config.pad_token_id = PAD
        model.generation_config.eos_token_id = None
        model.generation_config.suppress_tokens = list(range(7))  # a placeholder must not be generated
        return model

    def inputs(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """A left-padded batch: for each row the lengths of its videos, in tokens along time."""
        prompts: list[list[int]] = []
        pixels: list[Tensor] = []
        grids: list[list[int]] = []
        seed = 0
        for number, lengths in enumerate(rows):
            ids = [7 + number, 8, 9]
            for frames in lengths:
                seed += 1
                if self.grids:
                    height, width = 4, 4 + 2 * (seed % 2)
                    channels = 3 if self.package == "video_llama_3" else 6
                    pixels.append(_film((frames, height * width, channels * PATCH * PATCH), seed).flatten(0, 1))
                    grids.append([frames, height, width])
                    tokens = [[VIDEO] * (height * width // 4)] * frames
                else:
                    pixels.append(_film((frames, 3, SIDE, SIDE), seed))
                    pooled = 1 if self.package == "video_llava" else 2
                    tokens = [[VIDEO] * (SIDE // PATCH // pooled) ** 2] * frames
                    if self.package == "llava_onevision":
                        tokens = [*tokens, [VIDEO]]
                    elif self.package in ("video_llava", "nvila"):
                        tokens = [[VIDEO, *frame] for frame in tokens]
                    elif self.package == "llava_video":
                        tokens = [[VIDEO] * (len(frame) + SIDE // PATCH // 2) for frame in tokens]
                if self.timestamps or self.label:
                    words = range(30, 30 + self.label)
                    ids += [x for second, frame in enumerate(tokens) for x in (*words, 20 + second, START, *frame, END)]
                else:
                    ids += [START, *(x for frame in tokens for x in frame), END]
            prompts.append(ids + list(range(10, 13 + 3 * number)))
        longest = max(map(len, prompts))
        ids = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts])
        made = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
        if pixels:
            if self.package == "smolvlm":
                counts = [sum(lengths) for lengths in rows]
                images = torch.zeros(len(rows), max(counts), *pixels[0].shape[1:])  # those of zeros are padding
                images[torch.arange(max(counts)) < torch.tensor(counts)[:, None]] = torch.cat(pixels)
                made[self.pixels] = images
            else:
                made[self.pixels] = torch.cat(pixels) if self.grids or self.label else torch.stack(pixels)
        if self.package == "video_llama_3":
            made["video_grid_thw"] = torch.tensor(grids)
            made["video_merge_sizes"] = torch.full((len(grids),), 2)
        elif self.grids:
            made["mm_token_type_ids"] = 2 * (ids == VIDEO).int()
            if grids:
                made["video_grid_thw"] = torch.tensor(grids)
        return made


def _film(shape: tuple[int, ...], seed: int) -> Tensor:
    """A picture that stands still, but for a sixth of its values, which are new in every frame."""
    generator = torch.Generator().manual_seed(seed)
    still = torch.randn(1, *shape[1:], generator=generator).expand(shape).clone()
    changing = still.flatten(1)
    count = changing.shape[1] // 6
    changing[:, :count] = torch.randn(shape[0], count, generator=generator)
    return changing.view(shape)


FAMILIES = {
    "llava_onevision": Family(
        "llava_onevision",
        "LlavaOnevision",
        {
            "vision_config": VISION
            | {"image_size": SIDE, "model_type": "siglip_vision_model", "vision_use_head": False},
            "text_config": TEXT | {"model_type": "qwen2"},
            "vision_feature_layer": -1,
            "video_token_index": VIDEO,
            "image_token_index": IMAGE,
        },
    ),
    "llava_next_video": Family(
        "llava_next_video",
        "LlavaNextVideo",
        {
            "vision_config": VISION | {"image_size": SIDE, "model_type": "clip_vision_model"},
            "text_config": TEXT | {"model_type": "llama"},
            "video_token_index": VIDEO,
            "image_token_index": IMAGE,
        },
    ),
    "qwen2_vl": Family("qwen2_vl", "Qwen2VL", QWEN_2),
    "qwen2_5_vl": Family("qwen2_5_vl", "Qwen2_5_VL", QWEN_25),
    "qwen3_vl": Family("qwen3_vl", "Qwen3VL", QWEN_3, timestamps=True),
    "qwen3_vl_moe": Family(
        "qwen3_vl_moe", "Qwen3VLMoe", QWEN_3 | {"text_config": TEXT | MROPE | EXPERTS}, timestamps=True
    ),
}


FAMILIES["video_llama_3"] = Family(
    "video_llama_3", "VideoLlama3", {"vision_config": VISION, "text_config": TEXT | {"model_type": "qwen2"}} | VLIDS
)

FAMILIES["qwen3_5"] = Family(
    "qwen3_5",
    "Qwen3_5",
    {
        "vision_config": QWEN_VISION | {"hidden_size": 32, "out_hidden_size": 32, "num_position_embeddings": 16},
        "text_config": TEXT | MROPE | {"head_dim": 32, "layer_types": ["full_attention"] * LAYERS},
    }
    | IDS,
    timestamps=True,
)

FAMILIES["video_llava"] = Family(
    "video_llava",
    "VideoLlava",
    {
        "vision_config": VISION | {"image_size": SIDE, "model_type": "clip_vision_model"},
        "text_config": TEXT | {"model_type": "llama"},
        "video_token_index": VIDEO,
        "image_token_index": IMAGE,
    },
)

FAMILIES["internvl"] = Family(
    "internvl",
    "InternVL",
    {
        "vision_config": VISION | {"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]},
        "text_config": TEXT | {"model_type": "qwen2"},
        "image_token_id": VIDEO,
    },
    label=4,
)

FAMILIES["smolvlm"] = Family(
    "smolvlm",
    "SmolVLM",
    {
        "vision_config": VISION | {"image_size": SIDE},
        "text_config": TEXT | {"model_type": "llama"},
        "image_token_id": VIDEO,
        "pad_token_id": PAD,
    },
    label=9,
)


def language_model(model: Any) -> Any:
    """The decoder of a tiny model."""
    return getattr(model.model, "text_model", None) or model.model.language_model


SIGLIP_QWEN = {"vision_config": VISION | {"image_size": SIDE}, "text_config": TEXT, "video_token_id": VIDEO}
FAMILIES["llava_video"] = Family("llava_video", "LlavaVideo", SIGLIP_QWEN)
FAMILIES["nvila"] = Family("nvila", "Nvila", SIGLIP_QWEN | {"frame_end_token_id": 9})


@dataclass(frozen=True)
class Reference:
    """What a full-length run gives, in which columns are hidden from some layer on and nothing is dropped."""

    logits: Tensor
    embeddings: Tensor
    attention: list[Tensor]


@torch.no_grad()
def masked_run(
    model: Any,
    inputs: dict[str, Tensor],
    sequences: Tensor,
    hidden: Sequence[Tensor],
    *,
    positions: Tensor | None = None,
    embeddings: Tensor | None = None,
) -> Reference:
    """Run the whole of ``sequences`` (B, S + t), with the columns ``hidden[i]`` (B, S) masked in layer ``i``.

    ``positions`` and ``embeddings`` replace those that the model makes.
    """
    rows, prompt = inputs["input_ids"].shape
    extra = sequences.shape[1] - prompt
    if positions is None:
        positions = model._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
    missing = sequences.shape[1] - positions.shape[-1]
    following = positions[..., -1:] + torch.arange(1, missing + 1)
    positions = torch.cat([positions, following], -1)
    padding = torch.cat([inputs["attention_mask"], torch.ones(rows, extra, dtype=torch.int64)], 1)
    causal = torch.ones(prompt + extra, prompt + extra, dtype=torch.bool).tril()
    scores: list[Tensor] = []
    seen: list[Tensor] = []

    def hide(index: int) -> Any:
        gone = torch.nn.functional.pad(hidden[index], (0, extra))
        seeing = causal & padding.bool()[:, None] & ~gone[:, None]
        seeing |= (
            torch.eye(prompt + extra, dtype=torch.bool) & ~padding.bool()[:, :, None]
        )  # padding must see something
        mask = torch.zeros(seeing.shape).masked_fill(~seeing, torch.finfo(torch.float32).min)[:, None]

        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            return args, kwargs | {"attention_mask": mask}

        return hook

    text = language_model(model)
    handles = [layer.register_forward_pre_hook(hide(i), with_kwargs=True) for i, layer in enumerate(text.layers)]

    def look(module: Any, args: Any, kwargs: Any) -> Any:
        seen.append(kwargs["inputs_embeds"])
        if embeddings is None:
            return None
        replaced = torch.cat([embeddings, kwargs["inputs_embeds"][:, prompt:]], 1)
        return args, kwargs | {"inputs_embeds": replaced}

    handles.append(text.register_forward_pre_hook(look, with_kwargs=True))
    handles += [layer.self_attn.register_forward_hook(lambda m, a, out: scores.append(out[1])) for layer in text.layers]
    whole = dict(inputs) | {"input_ids": sequences, "attention_mask": padding, "position_ids": positions}
    if "mm_token_type_ids" in whole:
        whole["mm_token_type_ids"] = torch.nn.functional.pad(whole["mm_token_type_ids"], (0, extra))
    try:
        logits = model(**whole, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return Reference(logits[:, prompt - 1 : -1], seen[0], scores)
