"""Batching: several prompts as the inputs of one call of the model, and the answers in what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import StgraphError
from ..models.prompt import IMAGES

PER_COLUMN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""Inputs with one value for each column of the prompt."""


def joined(inputs: Sequence[Mapping[str, Any]], positions: Sequence[Tensor], begun: int) -> dict[str, Any]:
    """Several prompts with a common beginning of ``begun`` columns, padded between it and what follows.

    The padding is masked out; where it lies does not matter, since every column carries its position.
    """
    if len(inputs) == 1:
        (one,), (places,) = inputs, positions
        kept = {key: x for key, x in one.items() if key in ("input_ids", "attention_mask") or key in IMAGES}
        return kept | {"position_ids": places}
    longest = max(one["input_ids"].shape[1] for one in inputs)

    def stretched(x: Tensor, fill: int) -> Tensor:
        """(..., 1, S) with columns of ``fill`` in it, up to the longest."""
        gap = x.new_full((*x.shape[:-1], longest - x.shape[-1]), fill)
        return torch.cat([x[..., :begun], gap, x[..., begun:]], -1)

    return {
        "input_ids": torch.cat([stretched(one["input_ids"], int(one["input_ids"][0, 0])) for one in inputs]),
        "attention_mask": torch.cat([stretched(_mask(one), 0) for one in inputs]),
        "position_ids": torch.cat([stretched(place, 0) for place in positions], -2),
    }


def padded(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Several prompts as one batch, padded on the left; None where their videos do not fit into common tensors."""
    longest = max(one["input_ids"].shape[1] for one in inputs)
    rows = [{"attention_mask": _mask(one), **one} for one in inputs]
    whole: dict[str, Any] = {}
    for key, first in rows[0].items():
        parts = [part for row in rows if isinstance(part := row.get(key), Tensor) and part.dtype == first.dtype]
        if len(parts) < len(rows):
            return None
        if key in PER_COLUMN:
            fill = int(first[0, 0]) if key == "input_ids" else 0
            parts = [nn.functional.pad(part, (longest - part.shape[1], 0), value=fill) for part in parts]
        elif len({tuple(part.shape[1:]) for part in parts}) > 1:
            return None
        whole[key] = torch.cat(parts)
    return whole


def _mask(inputs: Mapping[str, Any]) -> Tensor:
    mask: Tensor | None = inputs.get("attention_mask")
    return torch.ones_like(inputs["input_ids"]) if mask is None else mask


def until(ids: Tensor, ends: int | Sequence[int] | None) -> Tensor:
    """An answer up to its first end token; a batch continues until its longest answer ends."""
    stops = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    found = torch.isin(ids, ids.new_tensor(stops)).nonzero()[:, 0] if stops else ids[:0]
    return ids[: int(found[0]) + 1] if len(found) else ids


def check_context(context: int | None, taken: int, new: int, *, prompt: int, video: int, frames: int) -> None:
    """Raise where a prompt and its answer are longer than the model's context; dropped tokens keep their places.

    Args:
        context: places that the model was made for; None where it is not known.
        taken: places of the prompt.
        new: tokens of the answer.
        prompt: tokens of the prompt.
        video: those of the video among them.
        frames: of the video.

    Raises:
        StgraphError: says how many tokens there are and how many frames fit.
    """
    if not context or taken + new <= context:
        return
    text = prompt - video
    share = (taken - text) / frames
    fits = int((context - text - new) / share) if share > 0 else 0
    if fits > 0:
        advice = f"at most {fits} frames of this size fit, so sample fewer"
    elif text + new <= context:
        advice = "not one frame of this size fits, so sample smaller frames or ask for a shorter answer"
    else:
        advice = "the text and the answer alone are too long, so shorten the question or ask for a shorter answer"
    raise StgraphError(
        f"the prompt has {prompt} tokens ({video} of them for the {frames} frames of the video), which with "
        f"max_new_tokens={new} is longer than the model's context of {context} tokens (dropped tokens count too, "
        f"because positions do not change); {advice}"
    )
