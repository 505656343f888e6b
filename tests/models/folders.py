"""Tiny model folders with random weights, as complete as real ones: shards, configuration, tokenizer, processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .zoo import FAMILIES, LAYERS, PATCH, SIDE, Family

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<image>",
    "<video>",
    "<vila/video>",
)
VOCABULARY = 256 + len(SPECIAL)
"""Ids that the tokenizer has: one for each byte, then the special ones."""

WIDTH = 288
"""Rows of the embedding: as in the real ones, more than the tokenizer has ids."""

PADDING, TURN_END = 256, 258

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}VIDEO{% elif part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}"
    "{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Turns as Qwen2 writes them; VIDEO and IMAGE stand for the placeholders of the family."""


def tiny_folder(path: Path, family: str) -> Path:
    """Write the folder of a tiny random model and return it.

    Args:
        path: the folder, made where it is missing.
        family: ``qwen2_5_vl`` or ``llava_onevision`` as transformers saves them, ``llava_video`` or ``nvila`` as their
            authors publish them.
    """
    path.mkdir(parents=True, exist_ok=True)
    if family in ("llava_video", "nvila"):
        (write_llava_video if family == "llava_video" else write_nvila)(path)
        return path
    if family == "qwen2_5_vl":
        write_qwen(path)
        video, image = (f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("video", "image"))
    elif family == "llava_onevision":
        write_llava_onevision(path)
        video, image = "<video>", "<image>"
    else:
        raise KeyError(family)
    write_tokenizer(path, CHAT.replace("VIDEO", video).replace("IMAGE", image))
    return path


def special(token: str) -> int:
    """Id of a special token."""
    return 256 + SPECIAL.index(token)


def write_tokenizer(path: Path, chat: str) -> None:
    """One token for each byte, and the special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], eos_token="<|im_end|>", model_max_length=32768
    )
    whole.chat_template = chat
    whole.save_pretrained(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))


def write_model(path: Path, family: Family, ids: dict[str, int], **text: Any) -> None:
    """Save a model of the zoo with the tokenizer's vocabulary, in shards."""
    words = {"vocab_size": WIDTH, "pad_token_id": PADDING, "bos_token_id": None, "eos_token_id": TURN_END}
    config = family.config | ids | {"text_config": family.config["text_config"] | words | text}
    model = Family(family.package, family.prefix, config).build("sdpa")
    model.generation_config.eos_token_id = TURN_END
    model.generation_config.pad_token_id = PADDING
    model.generation_config.suppress_tokens = [*range(256, TURN_END), *range(TURN_END + 1, WIDTH)]
    model.save_pretrained(path, max_shard_size="100KB")


def write_qwen(path: Path) -> None:
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    write_model(path, FAMILIES["qwen2_5_vl"], {key: special(f"<|{name}|>") for key, name in names.items()})
    pixels = {
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": 16 * 16, "longest_edge": 32 * 32},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    processor = {"processor_class": "Qwen2_5_VLProcessor"}
    write_json(
        path / "preprocessor_config.json", pixels | processor | {"image_processor_type": "Qwen2VLImageProcessor"}
    )
    write_json(
        path / "video_preprocessor_config.json", pixels | processor | {"video_processor_type": "Qwen2VLVideoProcessor"}
    )
    write_json(path / "processor_config.json", processor)


def write_llava_onevision(path: Path) -> None:
    ids = {"image_token_index": special("<image>"), "video_token_index": special("<video>")}
    write_model(path, FAMILIES["llava_onevision"], ids)
    pixels = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    processor = {"processor_class": "LlavaOnevisionProcessor"}
    write_json(
        path / "preprocessor_config.json",
        pixels
        | processor
        | {"image_processor_type": "LlavaOnevisionImageProcessor", "image_grid_pinpoints": [[SIDE, SIDE]]},
    )
    write_json(
        path / "video_preprocessor_config.json",
        pixels | processor | {"video_processor_type": "LlavaOnevisionVideoProcessor"},
    )
    write_json(
        path / "processor_config.json",
        processor
        | {
            "num_image_tokens": (SIDE // PATCH) ** 2,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_9",
            "image_token": "<image>",
            "video_token": "<video>",
        },
    )


# -- LLaVA-Video, as it is published ----------------------------------------------------------------------------------

HIDDEN, VISION_HIDDEN, INNER = 32, 16, 24
FRAME_SIDE = 20
"""Pixels: 5 × 5 patches, an odd number as in the real one."""

LLAVA_VIDEO: dict[str, Any] = {
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava_qwen",
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_hidden_size": VISION_HIDDEN,
    "mm_projector_type": "mlp2x_gelu",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_newline_position": "grid",
    "mm_spatial_pool_mode": "bilinear",
    "mm_spatial_pool_stride": 2,
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "add_faster_video": False,
    "image_aspect_ratio": "anyres_max_9",
    "tokenizer_padding_side": "right",
    "tokenizer_model_max_length": 32768,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rope_scaling": None,
    "rms_norm_eps": 1e-06,
    "hidden_act": "silu",
    "sliding_window": 131072,
    "use_sliding_window": False,
    "max_window_layers": 28,
    "tie_word_embeddings": False,
    "vocab_size": WIDTH,
    "bos_token_id": PADDING,
    "eos_token_id": TURN_END,
    "torch_dtype": "float32",
    "vision_config": {  # what the real one leaves out, because its tower is always the same
        "hidden_size": VISION_HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": FRAME_SIDE,
        "patch_size": PATCH,
    },
}


def siglip_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a SigLIP tower that is left after ``layers`` layers."""
    d, inner = VISION_HIDDEN, INNER
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (d, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": (d,),
        "embeddings.position_embedding.weight": ((FRAME_SIDE // PATCH) ** 2, d),
        "post_layernorm.weight": (d,),
        "post_layernorm.bias": (d,),
    }
    for layer in range(layers):
        place = f"encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{place}.self_attn.{name}.weight"] = (d, d)
            shapes[f"{place}.self_attn.{name}.bias"] = (d,)
        for name in ("layer_norm1", "layer_norm2"):
            shapes[f"{place}.{name}.weight"] = (d,)
            shapes[f"{place}.{name}.bias"] = (d,)
        shapes |= {f"{place}.mlp.fc1.weight": (inner, d), f"{place}.mlp.fc1.bias": (inner,)}
        shapes |= {f"{place}.mlp.fc2.weight": (d, inner), f"{place}.mlp.fc2.bias": (d,)}
    return shapes


def qwen2_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of Qwen2, below ``model.``; its head is ``lm_head.weight``."""
    d, inner, narrow = HIDDEN, INNER, HIDDEN // 2
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (WIDTH, d), "norm.weight": (d,)}
    for layer in range(LAYERS):
        place = f"layers.{layer}"
        for name, rows in (("q_proj", d), ("k_proj", narrow), ("v_proj", narrow)):
            shapes[f"{place}.self_attn.{name}.weight"] = (rows, d)
            shapes[f"{place}.self_attn.{name}.bias"] = (rows,)
        shapes |= {f"{place}.self_attn.o_proj.weight": (d, d), f"{place}.mlp.down_proj.weight": (d, inner)}
        shapes |= {f"{place}.mlp.{name}.weight": (inner, d) for name in ("gate_proj", "up_proj")}
        shapes |= {f"{place}.{name}.weight": (d,) for name in ("input_layernorm", "post_attention_layernorm")}
    return shapes


def llava_video_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of a published LLaVA-Video; the tower's last layer is gone."""
    tower = siglip_shapes(LLAVA_VIDEO["vision_config"]["num_hidden_layers"] - 1)
    shapes = {f"model.vision_tower.vision_tower.vision_model.{name}": shape for name, shape in tower.items()}
    shapes |= {f"model.{name}": shape for name, shape in qwen2_shapes().items()}
    return shapes | {
        "model.mm_projector.0.weight": (HIDDEN, VISION_HIDDEN),
        "model.mm_projector.0.bias": (HIDDEN,),
        "model.mm_projector.2.weight": (HIDDEN, HIDDEN),
        "model.mm_projector.2.bias": (HIDDEN,),
        "model.image_newline": (HIDDEN,),
        "lm_head.weight": (WIDTH, HIDDEN),
    }


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Normal values of deviation 0.2 (around 1 for the scales of norms), so that every weight shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.2 * torch.randn(shape, generator=generator) + float("norm" in name and name.endswith(".weight"))
        for name, shape in shapes.items()
    }


def write_shards(path: Path, weights: dict[str, Tensor], shards: int = 3) -> None:
    """Write numbered safetensors files and their index, or one ``model.safetensors`` without an index."""
    path.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        save_file(weights, path / "model.safetensors", {"format": "pt"})
        return
    places: dict[str, str] = {}
    names = list(weights)
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: weights[name] for name in names[shard::shards]}
        save_file(part, path / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    size = sum(weight.nbytes for weight in weights.values())
    write_json(path / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})


def read_back(path: Path) -> dict[str, Tensor]:
    """All weights of a folder."""
    return {name: x for file in sorted(path.glob("*.safetensors")) for name, x in load_file(file).items()}


SUPPRESSED = [*range(256, TURN_END), *range(TURN_END + 1, WIDTH)]


def write_llava_video(path: Path, **config: Any) -> None:
    """A published LLaVA-Video folder; ``config`` replaces entries of its configuration."""
    write_shards(path, random_weights(llava_video_shapes()))
    write_json(path / "config.json", LLAVA_VIDEO | config)
    generation = {"eos_token_id": TURN_END, "pad_token_id": PADDING, "suppress_tokens": SUPPRESSED}
    write_json(path / "generation_config.json", generation)
    write_tokenizer(path, CHAT.replace("VIDEO", "<image>").replace("IMAGE", "<image>"))


# -- NVILA, as it is published ----------------------------------------------------------------------------------------

NVILA_SIDE = 24
"""Pixels: 6 × 6 patches, which 2 × 2 and 3 × 3 divide."""

NVILA: dict[str, Any] = {
    "architectures": ["LlavaLlamaModel"],
    "model_type": "llava_llama",
    "dynamic_s2": True,
    "s2": False,
    "s2_scales": f"{NVILA_SIDE},{2 * NVILA_SIDE},{3 * NVILA_SIDE}",
    "mm_hidden_size": 3 * VISION_HIDDEN,
    "mm_vision_select_feature": "cls_patch",
    "mm_vision_select_layer": -2,
    "image_aspect_ratio": "dynamic_s2",
    "num_video_frames": 8,
    "model_dtype": "torch.float32",
    "llm_cfg": {"model_type": "qwen2"},
    "vision_tower_cfg": {"model_type": "siglip_vision_model"},
    "mm_projector_cfg": {"model_type": "v2l_projector"},
}
NVILA_LLM = {
    key: LLAVA_VIDEO[key]
    for key in (
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
        *("max_position_embeddings", "rope_theta", "rope_scaling", "rms_norm_eps", "hidden_act", "tie_word_embeddings"),
        *("use_sliding_window", "max_window_layers", "bos_token_id", "eos_token_id", "torch_dtype"),
    )
}
NVILA_LLM |= {"model_type": "qwen2", "sliding_window": None, "vocab_size": VOCABULARY}
NVILA_TOWER = LLAVA_VIDEO["vision_config"] | {"model_type": "siglip_vision_model", "image_size": NVILA_SIDE}


def nvila_shapes(projector: str = "mlp_downsample", scales: int = 3) -> dict[str, dict[str, tuple[int, ...]]]:
    """Folder inside a published NVILA -> names and shapes of its weights; the tower has all its layers."""
    seen = VISION_HIDDEN * scales
    steps = {1: (4 * seen,), 2: (HIDDEN, 4 * seen), 4: (HIDDEN, HIDDEN)}
    if projector == "mlp_downsample_3x3_fix":
        steps = {1: (9 * seen,), 2: (3 * seen, 9 * seen), 4: (3 * seen,), 5: (HIDDEN, 3 * seen), 7: (HIDDEN, HIDDEN)}
    tower = siglip_shapes(NVILA_TOWER["num_hidden_layers"])
    tower["embeddings.position_embedding.weight"] = ((NVILA_SIDE // PATCH) ** 2, VISION_HIDDEN)
    llm = {f"model.{name}": shape for name, shape in qwen2_shapes().items()}
    heads = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (VOCABULARY, HIDDEN))
    return {
        "llm": llm | heads,
        "vision_tower": {f"vision_model.{name}": shape for name, shape in tower.items()},
        "mm_projector": {f"layers.{number}.weight": shape for number, shape in steps.items()}
        | {f"layers.{number}.bias": shape[:1] for number, shape in steps.items()},
    }


def write_nvila(path: Path, projector: str = "mlp_downsample", **config: Any) -> None:
    """A published NVILA folder; ``config`` replaces entries of its configuration."""
    whole = NVILA | config
    scales = 3 if whole["dynamic_s2"] else 1
    for number, (part, shapes) in enumerate(nvila_shapes(projector, scales).items()):
        write_shards(path / part, random_weights(shapes, number), 3 if part == "llm" else 1)
    write_json(path / "config.json", whole)
    write_json(path / "llm" / "config.json", NVILA_LLM)
    write_json(path / "vision_tower" / "config.json", NVILA_TOWER)
    write_json(path / "mm_projector" / "config.json", {"model_type": "v2l_projector", "mm_projector_type": projector})
    write_tokenizer(path / "llm", CHAT.replace("VIDEO", "<vila/video>").replace("IMAGE", "<image>"))
