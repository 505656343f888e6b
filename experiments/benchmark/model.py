"""A small video LLM: transformers' own Qwen3-VL, with its own tokenizer of whole words.

Each frame of 128 × 128 pixels becomes 8 × 8 tokens, behind a token that tells its time.
"""

from __future__ import annotations

import json
import math
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .questions import words

SPECIAL = (
    "<|pad|>",
    "<|unk|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|video_pad|>",
    "<|image_pad|>",
)
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|video_pad|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
"""The video, the question, and a mark behind which the answer begins."""

PATCH, MERGE = 8, 2
WIDTH, TOWER_WIDTH = 192, 128


def times() -> list[str]:
    """How the times of frames are written: up to 64 frames, at 1, 2 or 4 of them a second."""
    return [f"{value:.1f}" for value in sorted({frame / fps for fps in (1, 2, 4) for frame in range(64)})]


def vocabulary() -> dict[str, int]:
    """Token -> id."""
    stamps = [f"<{time} seconds>" for time in times()]
    return {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL, *words(), *times(), *stamps]))}


def tokenizer() -> Any:
    """One token for each word, and for each time of a frame."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel(vocabulary(), unk_token="<|unk|>"))
    made.normalizer = normalizers.Lowercase()
    pieces = Regex(r"<[0-9.]+ seconds>|[0-9]+\.[0-9]+|[a-z0-9-]+|[^\sa-z0-9]")
    made.pre_tokenizer = pre_tokenizers.Split(pieces, "removed", invert=True)
    made.add_special_tokens(list(SPECIAL))
    whole = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|pad|>", unk_token="<|unk|>", eos_token="<|im_end|>", model_max_length=8192
    )
    whole.chat_template = TEMPLATE
    return whole


def build(seed: int = 0, *, layers: int = 4, width: int = WIDTH) -> Any:
    """The untrained model, float32."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    ids = vocabulary()
    config = Qwen3VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": TOWER_WIDTH,
            "intermediate_size": 384,
            "num_heads": 4,
            "patch_size": PATCH,
            "temporal_patch_size": 1,
            "spatial_merge_size": MERGE,
            "out_hidden_size": width,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [],
        },
        text_config={
            "vocab_size": -(-len(ids) // 64) * 64,
            "hidden_size": width,
            "intermediate_size": 512,
            "num_hidden_layers": layers,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "head_dim": 32,
            "max_position_embeddings": 8192,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 100000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "pad_token_id": 0,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
        },
        video_token_id=ids["<|video_pad|>"],
        image_token_id=ids["<|image_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1 / math.sqrt(parameter[0].numel()))
            if name.endswith(("embed_tokens.weight",)):
                parameter.normal_(0, 1)
            elif name.endswith("pos_embed.weight"):
                parameter.normal_(0, 0.3)
            elif name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.linear_fc2.weight")):
                parameter.mul_(0.4)
            elif name.endswith("lm_head.weight"):
                parameter.mul_(0.5)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = 0
    return model


@cache
def fast_dtype() -> torch.dtype:
    """The one of bfloat16 and float32 that this processor multiplies faster.

    One without instructions for bfloat16 takes 40 times as long for it.
    """

    def seconds(dtype: torch.dtype) -> float:
        rows = torch.ones(256, 256, dtype=dtype)
        rows @ rows
        begun = time.perf_counter()
        for _ in range(5):
            rows @ rows
        return time.perf_counter() - begun

    return min((torch.bfloat16, torch.float32), key=seconds)


def autocast() -> torch.autocast:
    """Mixed precision for training on a CPU, where the processor gains by it; else float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() is torch.bfloat16)


def save(model: nn.Module, folder: str | Path, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write weights, configuration, tokenizer and processor as a folder of transformers."""
    import copy

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    whole: Any = copy.deepcopy(model).to(dtype)
    whole.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    pixels = {
        "patch_size": PATCH,
        "temporal_patch_size": 1,
        "merge_size": MERGE,
        # of all frames together: at least 8 of 96 × 96, at most 64 of 256 × 256
        "size": {"shortest_edge": 8 * 96 * 96, "longest_edge": 64 * 256 * 256},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "processor_class": "Qwen3VLProcessor",
    }
    for name, kind in (("preprocessor", "image_processor"), ("video_preprocessor", "video_processor")):
        title = "Qwen2VLImageProcessorFast" if kind == "image_processor" else "Qwen3VLVideoProcessor"
        (folder / f"{name}_config.json").write_text(json.dumps(pixels | {f"{kind}_type": title}, indent=2) + "\n")
