"""One video and many questions in one sequence: each question sees the video and itself, and no other question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import model as small
from .questions import Question

IDS = small.vocabulary()
START, END, VIDEO = (IDS[f"<|{name}|>"] for name in ("im_start", "im_end", "video_pad"))


def encode_text(question: Question) -> list[int]:
    """Ids of a question up to the mark behind which its answer begins."""
    return [IDS[word] for word in question.text.split()] + [START]


@lru_cache(maxsize=256)
def prefix_ids(frames: int, grid: int, fps: int) -> Tensor:
    """(P,) ids of a video's part of the prompt, as the processor writes it."""
    ids: list[int] = []
    for frame in range(frames):
        ids += [IDS[f"<{frame / fps:.1f} seconds>"], IDS["<|vision_start|>"], *[VIDEO] * grid**2, IDS["<|vision_end|>"]]
    return torch.tensor(ids)


_positions: dict[tuple[int, int], Tensor] = {}


def prefix_positions(model: Any, frames: int, grid: int) -> Tensor:
    """(3, P) time, row and column of the video's part, by the model's own rule."""
    if (frames, grid) not in _positions:
        ids = prefix_ids(frames, grid, 1)[None]
        patches = torch.tensor([[frames, grid * small.MERGE, grid * small.MERGE]])
        found, _ = model.model.get_rope_index(ids, 2 * (ids == VIDEO).int(), video_grid_thw=patches)
        _positions[frames, grid] = found[:, 0]
    return _positions[frames, grid]


@dataclass(frozen=True)
class Packed:
    """Videos of one length, with questions behind each, padded on the right.

    Attributes:
        embeddings: (B, S, d).
        positions: (3, B, S).
        mask: (B, 1, S, S) bool, who sees whom.
        asked: (A, 2) rows and columns of the marks behind which answers begin.
        answers: (A,) ids of the right answers, which follow in the next column.
        prefix: columns of the video's part, the first ones.
    """

    embeddings: Tensor
    positions: Tensor
    mask: Tensor
    asked: Tensor
    answers: Tensor
    prefix: int


def pack(model: Any, tokens: Tensor, fps: int, questions: Sequence[Sequence[Question]]) -> Packed:
    """Lay out (B, T, h, w, d) tokens and the questions of each video, with their answers."""
    count, frames, grid = tokens.shape[:3]
    prefix = prefix_ids(frames, grid, fps)
    length = len(prefix)
    texts = [[[*encode_text(question), IDS[question.word]] for question in asked] for asked in questions]
    total = length + max(sum(map(len, each)) for each in texts)
    ids = torch.zeros(count, total, dtype=torch.int64)
    ids[:, :length] = prefix
    place = prefix_positions(model, frames, grid)
    begin = int(place.max()) + 1
    positions = torch.zeros(3, count, total, dtype=torch.int64)
    positions[:, :, :length] = place[:, None]
    segment = torch.full((count, total), -1)
    segment[:, :length] = 0
    asked, answers = [], []
    for row, each in enumerate(texts):
        column = length
        for number, text in enumerate(each, start=1):
            stop = column + len(text)
            ids[row, column:stop] = torch.tensor(text)
            positions[:, row, column:stop] = begin + torch.arange(len(text))
            segment[row, column:stop] = number
            asked.append((row, stop - 2))
            answers.append(text[-1])
            column = stop
    causal = torch.ones(total, total, dtype=torch.bool).tril()
    same = segment[:, :, None] == segment[:, None]
    mask = (causal & (same | (segment == 0)[:, None]))[:, None]
    embeddings = model.get_input_embeddings()(ids)
    flat = tokens.flatten(1, 3).to(embeddings.dtype)
    embeddings = embeddings.masked_scatter((ids == VIDEO)[..., None], flat)
    return Packed(embeddings, positions, mask, torch.tensor(asked), torch.tensor(answers), length)


def use_packed_attention(model: Any) -> None:
    """Let the language model skip what :class:`Packed` sequences mask: half of the work. The result is the same."""
    from transformers import AttentionInterface

    AttentionInterface.register("packed", _packed_attention)
    model.model.language_model.config._attn_implementation = "packed"


def _packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    *,
    prefix_length: int,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of (B, heads, S, d): the video sees what came before; questions see what their mask says."""
    cut = prefix_length
    video = F.scaled_dot_product_attention(
        query[:, :, :cut], key[:, :, :cut], value[:, :, :cut], is_causal=True, scale=scaling
    )
    asked = F.scaled_dot_product_attention(query[:, :, cut:], key, value, attn_mask=mask[:, :, cut:], scale=scaling)
    return torch.cat([video, asked], 2).transpose(1, 2), None


def logits(model: Any, packed: Packed) -> tuple[Tensor, Tensor]:
    """(A, V) of what follows each question, and of what follows its right answer."""
    hidden = model.model.language_model(
        inputs_embeds=packed.embeddings,
        attention_mask=packed.mask,
        position_ids=packed.positions,
        use_cache=False,
        prefix_length=packed.prefix,
    ).last_hidden_state
    rows, columns = packed.asked.T
    return model.lm_head(hidden[rows, columns]), model.lm_head(hidden[rows, columns + 1])
