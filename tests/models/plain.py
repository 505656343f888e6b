"""SigLIP, projectors and pooling in plain torch, from the weights of a checkpoint by their published names."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def part(weights: Weights, prefix: str) -> Weights:
    """The weights below ``prefix``, without it."""
    return {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def normed(x: Tensor, weights: Weights, name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def gelu_tanh(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def siglip(pixels: Tensor, weights: Weights, *, layers: int, heads: int) -> Tensor:
    """(n, patches, d) behind ``layers`` layers of a tower that sees (n, 3, side, side)."""
    kernel = weights["embeddings.patch_embedding.weight"]
    size = kernel.shape[-1]
    patches = pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = patches @ kernel.flatten(1).T + weights["embeddings.patch_embedding.bias"]
    x = x + weights["embeddings.position_embedding.weight"]
    for number in range(layers):
        layer = part(weights, f"encoder.layers.{number}.")
        inner = normed(x, layer, "layer_norm1", 1e-6)
        query, key, value = (
            linear(inner, layer, f"self_attn.{name}_proj").unflatten(-1, (heads, -1)).transpose(1, 2) for name in "qkv"
        )
        seen = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])).softmax(-1) @ value
        x = x + linear(seen.transpose(1, 2).flatten(2), layer, "self_attn.out_proj")
        inner = normed(x, layer, "layer_norm2", 1e-6)
        x = x + linear(gelu_tanh(linear(inner, layer, "mlp.fc1")), layer, "mlp.fc2")
    return x


def bilinear(maps: Tensor, side: int) -> Tensor:
    """(n, side, side, d) from (n, h, h, d), place by place."""
    before = maps.shape[1]
    out = maps.new_zeros(len(maps), side, side, maps.shape[3])
    for y in range(side):
        for x in range(side):
            at = [min(max((i + 0.5) * before / side - 0.5, 0), before - 1) for i in (y, x)]
            (top, down), (left, right) = ((int(a), a - int(a)) for a in at)
            low, far = min(top + 1, before - 1), min(left + 1, before - 1)
            upper = maps[:, top, left] * (1 - right) + maps[:, top, far] * right
            lower = maps[:, low, left] * (1 - right) + maps[:, low, far] * right
            out[:, y, x] = upper * (1 - down) + lower * down
    return out


def language_model(weights: Weights, embeddings: Tensor, config: dict[str, object]) -> Tensor:
    """Logits of Qwen2 alone, from embeddings (B, S, d) and the weights by the names that it is published under."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(Qwen2Config(**config)).eval()  # type: ignore[arg-type]
    model.load_state_dict(weights)
    with torch.no_grad():
        logits: Tensor = model(inputs_embeds=embeddings).logits
    return logits
