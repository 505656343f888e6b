"""Tiny Qwen2.5-VL and Qwen3-VL with random weights, as folders that vLLM and transformers load.

Needs transformers and torchvision, as the environment of ``make test-vllm`` has them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
IDS = {token: 256 + number for number, token in enumerate(SPECIAL)}
VIDEO, IMAGE = IDS["<|video_pad|>"], IDS["<|image_pad|>"]
CLIP, PICTURE = "<|vision_start|><|video_pad|><|vision_end|>", "<|vision_start|><|image_pad|><|vision_end|>"

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if 'text' in part %}{{ part.text }}"
    f"{{% elif 'image' in part.type %}}{PICTURE}"
    f"{{% elif 'video' in part.type %}}{CLIP}{{% endif %}}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 272,
    "max_position_embeddings": 32768,
    "pad_token_id": IDS["<|endoftext|>"],
    "bos_token_id": IDS["<|endoftext|>"],
    "eos_token_id": IDS["<|im_end|>"],
    "tie_word_embeddings": False,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e4,
        "mrope_section": [4, 6, 6],
        "mrope_interleaved": True,
    },
}
VISION: dict[str, Any] = {"depth": 3, "num_heads": 2, "patch_size": 4, "intermediate_size": 64, "hidden_size": 64}
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": IDS["<|vision_start|>"],
    "vision_end_token_id": IDS["<|vision_end|>"],
}


def folder(path: Path, family: str, seed: int = 0) -> Path:
    """Write a model of ``qwen2_5_vl`` or ``qwen3_vl`` with its processor."""
    import torch
    import transformers

    if family == "qwen2_5_vl":
        text = TEXT | {"rope_parameters": {**TEXT["rope_parameters"], "mrope_interleaved": False}}
        vision = VISION | {"out_hidden_size": 64, "window_size": 16, "fullatt_block_indexes": [2]}
        config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **TOKENS)
        model = transformers.Qwen2_5_VLForConditionalGeneration
    else:
        vision = VISION | {
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1, 2],
        }
        config = transformers.Qwen3VLConfig(text_config=TEXT, vision_config=vision, **TOKENS)
        model = transformers.Qwen3VLForConditionalGeneration
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        made = model(config).eval()
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    made.generation_config = transformers.GenerationConfig(eos_token_id=IDS["<|im_end|>"])
    made.save_pretrained(path)
    _processor(family).save_pretrained(path)
    return path


def _processor(family: str) -> Any:
    import transformers

    size = {"shortest_edge": 8 * 8, "longest_edge": 1 << 26}
    patches = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    # vLLM normalises images and videos alike, as published processors do.
    colours = {} if family == "qwen2_5_vl" else {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    image = transformers.Qwen2VLImageProcessor(**patches, **colours)
    if family == "qwen2_5_vl":
        video: Any = transformers.Qwen2VLVideoProcessor(**patches, do_sample_frames=False)
        cls: Any = transformers.Qwen2_5_VLProcessor
    else:
        video = transformers.Qwen3VLVideoProcessor(**patches, do_sample_frames=False)
        cls = transformers.Qwen3VLProcessor
    return cls(image_processor=image, tokenizer=_tokenizer(), video_processor=video, chat_template=TEMPLATE)


def _tokenizer() -> Any:
    """One token for each byte, and the special ones."""
    import transformers
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL,
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
    )


def film(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(frames, height, width, 3) uint8: a still scene, a patch that moves, and some noise."""
    generator = np.random.default_rng(seed)
    scene = generator.integers(0, 256, (height, width, 3))
    clip = np.repeat(scene[None], frames, 0)
    patch = generator.integers(0, 256, (8, 8, 3))
    for number in range(frames):
        row, column = 8 * (number // 2) % (height - 7), 8 * (number // 3) % (width - 7)
        clip[number, row : row + 8, column : column + 8] = patch
    noise = generator.integers(-6, 7, clip.shape)
    return np.clip(clip + noise, 0, 255).astype(np.uint8)


def with_metadata(clip: np.ndarray, fps: float = 2.0) -> tuple[np.ndarray, dict[str, Any]]:
    """As vLLM takes a video: frames, and what is known of them."""
    frames = len(clip)
    return clip, {
        "fps": fps,
        "duration": frames / fps,
        "total_num_frames": frames,
        "frames_indices": list(range(frames)),
        "video_backend": "none",
        "do_sample_frames": False,
    }


def main() -> None:
    """``python -m tests.integrations.serving.tiny FAMILY FOLDER``."""
    import sys

    print(json.dumps({"folder": str(folder(Path(sys.argv[2]), sys.argv[1]))}))


if __name__ == "__main__":
    main()
