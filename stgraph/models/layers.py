"""Decoder layers: what is read in them, and what their language model must offer for that."""

from __future__ import annotations

import inspect
import sys
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import StgraphError
from .cut import Cut


def last_attention(
    attention: nn.Module, query: Tensor, keys: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor
) -> Tensor:
    """Head-mean attention of the last query to every column, (B, S) float32, as the layer itself computes it.

    Args:
        attention: the attention module of a decoder layer.
        query: (B, 1, heads · d) or (B, 1, heads, d), not rotated.
        keys: (B, S, key heads · d) or (B, S, key heads, d), not rotated.
        rotation: cosines and sines, (B, S, d) each.
        mask: (B, S), 0 for padding.
    """
    size = cast(int, attention.head_dim)
    rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    q = query.view(*query.shape[:2], -1, size).transpose(1, 2)
    k = keys.view(*keys.shape[:2], -1, size).transpose(1, 2)
    cosine, sine = rotation
    q, _ = rotate(q, q, cosine[:, -1:], sine[:, -1:])
    _, k = rotate(k, k, cosine, sine)
    q = q.unflatten(1, (k.shape[1], -1)).squeeze(3)  # (B, key heads, queries of each, d)
    logits = (q.float() @ k.float().transpose(2, 3)) * cast(float, attention.scaling)
    logits = logits.masked_fill(mask[:, None, None].to(logits.device) == 0, -torch.inf)
    received: Tensor = logits.softmax(-1).mean((1, 2))
    return received


def projections(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The modules whose outputs are the queries and keys of a decoder layer, not rotated yet."""
    attention = getattr(layer, "self_attn", None)
    found = [
        getattr(attention, f"{kind}_norm", None) or getattr(attention, f"{kind}_proj", None) for kind in ("q", "k")
    ]
    if None in found or not hasattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb"):
        raise StgraphError(
            f"queries and keys cannot be read in {type(layer).__name__}, which has no q_proj and k_proj of its own or "
            'no rotary positions; use trim="before"'
        )
    query, key = cast("list[nn.Module]", found)
    return query, key


def norm_behind_attention(layer: nn.Module) -> nn.Module:
    """The norm of a decoder layer that is given the residual stream behind its attention."""
    for name in ("pre_feedforward_layernorm", "post_attention_layernorm"):
        norm = getattr(layer, name, None)
        if norm is not None:
            return cast(nn.Module, norm)
    raise StgraphError(
        f"the hidden states behind the attention of {type(layer).__name__} cannot be read, because it has no "
        'post_attention_layernorm; use trim="before"'
    )


def check_version(*, inside: bool) -> None:
    """Raise :class:`StgraphError` where transformers is too old for tokens to be dropped before, or inside, the LLM.

    Before 5.18 ``generate`` encodes a video again for each beam; 5.23 makes masks for layers whose caches differ in
    length.
    """
    from packaging.version import Version
    from transformers import __version__, masking_utils

    if Version(__version__).release < (5, 18):
        raise StgraphError(
            f"attaching needs transformers 5.18 or later, but this is {__version__}; "
            'upgrade with pip install "stgraph-simdiff[models]"'
        )
    if inside and "layer_idx" not in inspect.signature(masking_utils.create_causal_mask).parameters:
        raise StgraphError(
            f'trim="inside" needs transformers 5.23 or later, but this is {__version__}; upgrade or use trim="before"'
        )


def check_not_compiled(model: nn.Module) -> None:
    """Raise :class:`StgraphError` where torch compiled the model or a part of it: hooks would be compiled with it."""
    for name, module in model.named_modules():
        forward = module.forward
        compiled = hasattr(forward, "_torchdynamo_orig_callable") and not hasattr(forward, "_torchdynamo_disable")
        if compiled or module._compiled_call_impl is not None:
            raise StgraphError(
                f"{name or 'the model'} is compiled by torch, and a pruned prompt changes its shapes within the model; "
                "attach to the model as it was loaded"
            )


def cut_deepstack(cut: Cut, visual: Tensor, features: list[Tensor]) -> dict[str, Any]:
    """Deepstack features lie one after the other, in the order of the True places of ``visual`` (B, S)."""
    number = (visual.flatten().cumsum(0) - 1).view_as(visual)
    kept = cut.take(visual)
    kept[:, : cut.width] &= cut.valid.to(kept.device)
    rows = cut.take(number)[kept]
    return {"visual_pos_masks": kept, "deepstack_visual_embeds": [x[rows.to(x.device)] for x in features]}
