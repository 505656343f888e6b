"""Auxiliary losses on attention in training: four heads are taught which tokens to look at.

To count objects, a head must look at each of them as much as at the others, however many tokens show it. To see a
movement, it must find the object in an earlier frame. From answers alone neither was learnt in 13,000 clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .questions import Question
from .sprites import COLOURS, KINDS

ROWS = 64
"""Visual tokens of a clip whose attention is looked at, at most."""

Truth = dict[str, Tensor]
"""The labels of a clip, see :mod:`.labels`."""


class Guide(NamedTuple):
    """What a head of a layer is taught.

    Attributes:
        layer: counted from 0.
        head: counted from 0.
        tokens: from the labels of a clip to (R,) tokens and (R, N) bool or float, how much each of them looks at every
            token; None where only words look.
        word: from the labels and a question to (N,) bool or float, how much one word of the question looks at every
            token; None for questions that this head has nothing to do with.
        place: of that word, counted from the end of the question, 1 for the last one.
        answers: type of question -> the place of the word that the mark behind the question looks at, counted from the
            mark.
        sink: whether it also looks at the first column of the sequence, as much as at one object: so the output of a
            counting head tells how many there are.
    """

    layer: int
    head: int
    tokens: Callable[[Truth], tuple[Tensor, Tensor]] | None = None
    word: Callable[[Truth, Question], Tensor | None] | None = None
    place: int = 1
    answers: Mapping[str, int] = {}
    sink: bool = False


def _some(preferred: Tensor, others: Tensor) -> Tensor:
    """(R,) numbers of at most ``ROWS`` tokens, half of them preferred where there are enough."""
    one, two = (mask.flatten().nonzero()[:, 0] for mask in (preferred, others & ~preferred))
    one = one[torch.randperm(len(one))[: ROWS // 2]]
    return torch.cat([one, two[torch.randperm(len(two))[: ROWS - len(one)]]])


def begin_of_object(truth: Truth) -> tuple[Tensor, Tensor]:
    """Each token of an object looks at the object's tokens in the first frame that shows it."""
    kind = truth["kind"].flatten()
    moved = (truth["across"] > 0) | (truth["down"] > 0)
    rows = _some(moved, truth["kind"] < len(KINDS))
    frame = torch.arange(len(kind)) // truth["kind"][0].numel()
    same = kind[rows, None] == kind
    start = torch.where(same, frame, len(kind)).amin(1, keepdim=True)
    return rows, same & (frame == start) & (torch.arange(len(kind)) <= rows[:, None])


def objects_alike(truth: Truth) -> tuple[Tensor, Tensor]:
    """Each token of an object looks at the objects of its colour seen so far, in the first frame of each.

    All of them get the same weight, which is shared by their tokens as these share the object.
    """
    colour, part = truth["colour"].flatten(), truth["part"].flatten() / 255
    rows = _some(truth["alike"] > 1, truth["colour"] < len(COLOURS))
    return rows, (colour[rows, None] == colour) * part * (torch.arange(len(colour)) <= rows[:, None])


def counted(truth: Truth, question: Question) -> Tensor | None:
    """The colour in "how many red objects were there" looks at these objects, in the first frame of each."""
    if question.type != "count":
        return None
    colour = list(COLOURS).index(question.text.split()[2])
    return (truth["colour"].flatten() == colour) * truth["part"].flatten() / 255


def displaced(truth: Truth, question: Question) -> Tensor | None:
    """The object in "which way did the star move" looks at its tokens that are away from where it was first seen."""
    if question.type != "direction":
        return None
    mine = truth["kind"].flatten() == KINDS.index(question.text.split()[4])
    found = mine & ((truth["across"] > 0) | (truth["down"] > 0)).flatten()
    return found if bool(found.any()) else None


GUIDES = {
    "begin": Guide(1, 5, begin_of_object),
    "alike": Guide(3, 5, objects_alike, counted, 4, sink=True),
    "moved": Guide(4, 5, None, displaced, 2),
    "answer": Guide(5, 5, answers={"count": 4, "direction": 2}),
}


class Guided:
    """Notes what enters the attention of a guided head, and gives the loss.

    Attributes:
        guide: what the head is taught.
    """

    def __init__(self, model: Any, guide: Guide) -> None:
        self.guide = guide
        self._attention = model.model.language_model.layers[guide.layer].self_attn
        self._seen: tuple[Tensor, tuple[Tensor, Tensor]] | None = None
        self._attention.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        self._seen = hidden, kwargs["position_embeddings"]

    def targets(
        self, truth: Truth, columns: Tensor, length: int, asked: Sequence[tuple[int, Question]]
    ) -> tuple[Tensor, Tensor]:
        """(R,) columns of a clip's sequence, and (R, S) how much each of them looks at every column.

        Args:
            truth: the labels of the clip.
            columns: (N,) of its visual tokens.
            length: S of the sequence.
            asked: column of the mark behind each question, and the question.
        """
        rows: list[int] = []
        looked: list[Tensor] = []
        if self.guide.tokens is not None:
            tokens, seen = self.guide.tokens(truth)
            rows += columns[tokens].tolist()
            looked += list(seen)
        for mark, question in asked:
            if self.guide.word is not None and (seen_by_word := self.guide.word(truth, question)) is not None:
                rows.append(mark - self.guide.place)
                looked.append(seen_by_word)
        answers = [(mark, mark - self.guide.answers[q.type]) for mark, q in asked if q.type in self.guide.answers]
        target = torch.zeros(len(rows) + len(answers), length)
        if rows:
            target[: len(rows), columns] = torch.stack(looked).float()
        for number, (mark, word) in enumerate(answers, start=len(rows)):
            rows.append(mark)
            target[number, word] = 1
        target[:, 0] += float(self.guide.sink)
        return torch.tensor(rows, dtype=torch.long), target / target.sum(1, keepdim=True)

    def loss(self, rows: list[Tensor], targets: list[Tensor]) -> Tensor:
        """Cross-entropy between where the head looks and where it should; 0 where nothing looks.

        Args:
            rows: for each clip (R,) columns of the sequence.
            targets: for each clip (R, S) weights of the columns, those of a row add up to 1.
        """
        if self._seen is None:
            raise RuntimeError("a guide is asked before the model ran")
        (hidden, (cos, sin)), self._seen = self._seen, None
        attention, head, losses = self._attention, self.guide.head, []
        size = attention.head_dim
        part = slice(head * size, (head + 1) * size)
        keys = attention.k_norm(hidden @ attention.k_proj.weight[part].T)
        for number, (row, target) in enumerate(zip(rows, targets, strict=True)):
            if not len(row):
                continue
            query = attention.q_norm(hidden[number, row] @ attention.q_proj.weight[part].T)
            query = _turned(query, cos[number, row], sin[number, row])
            key = _turned(keys[number], cos[number], sin[number])
            scores = (query.float() @ key.float().T) * attention.scaling
            later = torch.arange(scores.shape[1]) > row[:, None]
            chances = scores.masked_fill(later, -torch.inf).log_softmax(1)
            losses.append(-torch.where(target > 0, target * chances, 0.0).sum(1).mean())
        return torch.stack(losses).mean() if losses else torch.zeros(())


def _turned(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(S, d) queries or keys in their places, by the model's rotary embedding."""
    from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb

    one = vectors[None, None]
    turned: Tensor = apply_rotary_pos_emb(one, one, cos[None], sin[None])[0][0, 0]
    return turned
