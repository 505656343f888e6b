"""A decoder in plain torch, which knows nothing of transformers or of stgraph, against pruned models."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from stgraph import STSimDiff, compat

from .test_attachment import RETENTION, TRIM_LAYER, greedy, hidden_columns, model_of, trims
from .zoo import FAMILIES, language_model

SIZES = {"internvl": [[4, 2]], "smolvlm": [[4, 2]]}
"""Two videos in a prompt: with as many frames where a family takes them in one tensor; Qwen's differ in size."""

DECODERS = (
    "llava_onevision",
    "llava_next_video",
    "qwen2_vl",
    "qwen2_5_vl",
    "internvl",
    "video_llama_3",
    "llava_video",
    "nvila",
)


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def rotated(x: Tensor, angle: Tensor) -> Tensor:
    """(heads, S, d) turned by (S, d / 2) angles: dimension i goes with dimension i + d / 2."""
    one, two = x.chunk(2, -1)
    return torch.cat([one * angle.cos() - two * angle.sin(), two * angle.cos() + one * angle.sin()], -1)


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    out = x @ weights[f"{name}.weight"].T
    return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out


def decode(weights: dict[str, Tensor], config: Any, x: Tensor, positions: Tensor, hidden: list[Tensor]) -> Tensor:
    """(S, d) behind the last norm of one sequence.

    Args:
        weights: of the language model, by name.
        config: its configuration, for the numbers of heads and the like.
        x: (S, d) embeddings.
        positions: (S,), or (3, S) for time, height and width.
        hidden: for each layer the columns that nobody sees.
    """
    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    rope = config.rope_parameters
    frequency = rope["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    if positions.ndim == 2:  # each axis turns its own part of the dimensions
        axis = torch.repeat_interleave(torch.arange(3), torch.tensor(rope["mrope_section"]))
        angle = positions[axis].T * frequency
    else:
        angle = positions[:, None] * frequency
    causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    for number, gone in enumerate(hidden):
        layer = {
            n.removeprefix(f"layers.{number}."): w for n, w in weights.items() if n.startswith(f"layers.{number}.")
        }
        inner = normed(x, layer["input_layernorm.weight"], config.rms_norm_eps)
        query, key, value = (
            linear(inner, layer, f"self_attn.{name}_proj").unflatten(1, (-1, size)).transpose(0, 1) for name in "qkv"
        )
        query, key = rotated(query, angle), rotated(key, angle)
        key, value = (y.repeat_interleave(heads // groups, 0) for y in (key, value))
        seeing = (causal & ~gone) | torch.eye(len(x), dtype=torch.bool)
        weight = (query @ key.transpose(1, 2) / math.sqrt(size)).masked_fill(~seeing, -torch.inf).softmax(-1)
        x = x + linear((weight @ value).transpose(0, 1).flatten(1), layer, "self_attn.o_proj")
        inner = normed(x, layer["post_attention_layernorm.weight"], config.rms_norm_eps)
        gate = linear(inner, layer, "mlp.gate_proj")
        x = x + linear(gate * gate.sigmoid() * linear(inner, layer, "mlp.up_proj"), layer, "mlp.down_proj")
    return normed(x, weights["norm.weight"], config.rms_norm_eps)


@pytest.mark.parametrize("family", DECODERS)
@trims
def test_a_pruned_answer_is_that_of_a_plain_decoder(family, trim):
    model, inputs = model_of(family), FAMILIES[family].inputs(SIZES.get(family, [[4, 4]]))
    with STSimDiff(retention=RETENTION).attach(model, trim=trim) as attached:
        out = greedy(model, inputs)
    assert attached.selection.batch.max() == 1, "two videos"
    seen: list[Tensor] = []
    decoder = language_model(model)
    handle = decoder.register_forward_pre_hook(lambda m, a, k: seen.append(k["inputs_embeds"]), with_kwargs=True)
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    prompt = inputs["input_ids"].shape[1]
    positions = compat.prompt_positions(model, inputs)
    positions = positions[-3:, 0] if positions.ndim == 3 else positions[0]
    extra = out.sequences.shape[1] - prompt
    positions = torch.cat([positions, positions[..., -1:] + torch.arange(1, extra + 1)], -1)
    weights = decoder.state_dict()
    x = torch.cat([seen[0][0], weights["embed_tokens.weight"][out.sequences[0, prompt:]]])
    gone = hidden_columns(inputs, attached.selection, trim, TRIM_LAYER)
    hidden = [torch.nn.functional.pad(columns[0], (0, extra)) for columns in gone]
    last = decode(weights, decoder.config, x, positions, hidden)
    logits = last[prompt - 1 : -1] @ model.lm_head.weight.T
    torch.testing.assert_close(torch.stack(out.logits, 1)[0], logits, atol=1e-4, rtol=0)
