"""The benchmark as a sweep uses it: clips by name, and a model that answers the questions about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import torch

from stgraph.errors import StgraphError, check_choice, nearest

from .sweep.evaluator import clip_name

if TYPE_CHECKING:
    from torch import Tensor

    from stgraph.selectors import Selection, Selector

    from .benchmark.answering import Reader
    from .benchmark.splits import Asked


class Answers(NamedTuple):
    """See :class:`experiments.sweep.Answers`."""

    kinds: tuple[str, ...]
    correct: tuple[bool, ...]
    probability: tuple[float, ...]
    selection: Selection | None
    seconds: Mapping[str, float]
    flops: float


class Benchmark:
    """The clips and questions of :mod:`experiments.benchmark`, answered by one model.

    Args:
        model: folder of the video LLM.
    """

    def __init__(self, model: str) -> None:
        from .benchmark.answering import Reader
        from .benchmark.splits import VERSION

        self._reader = Reader.from_pretrained(model)
        self.identity = {"model": self._reader.digest, "benchmark": VERSION}

    def clips(self, split: str, count: int | None = None, **knobs: Any) -> list[str]:
        """The names of the first ``count`` clips of a split, made with these knobs.

        Raises:
            StgraphError: no such split or knob, or the split has fewer clips.
        """
        from .benchmark.splits import SPLITS

        check_choice("split", split, SPLITS)
        total = SPLITS[split]
        if count is not None and count > total:
            raise StgraphError(f"split {split} has {total} clips, got clips={count}")
        _knobs({key: str(value) for key, value in knobs.items()})
        return [clip_name(split, number, knobs) for number in range(count or total)]

    def open(self, clip: str) -> Open:
        """Paint and encode a clip."""
        from .benchmark.splits import load_clip

        name, _, asked = clip.partition("?")
        split, _, number = name.partition("/")
        return Open(self._reader, load_clip(split, int(number), _knobs(dict(parse_qsl(asked)))))


class Open:
    """See :class:`experiments.sweep.OpenClip`."""

    def __init__(self, reader: Reader, asked: Asked) -> None:
        self._reader, self._asked = reader, asked
        self.tokens, self.signals = reader.tokens(asked.clip)
        self.events: dict[str, Tensor] = {}
        for question in asked.questions:
            mask = torch.from_numpy(question.evidence.reshape(-1))
            if bool(mask.any()):
                self.events[question.type] = self.events.get(question.type, torch.zeros_like(mask)) | mask

    def answer(self, selector: Selector | None, *, trim: Any = None, layer: int | None = None) -> Answers:
        """Answer the questions of the clip."""
        outcomes = self._reader.answer(self._asked.clip, self._asked.questions, selector, trim=trim, layer=layer)
        return Answers(
            tuple(outcome.type for outcome in outcomes),
            tuple(outcome.correct for outcome in outcomes),
            tuple(float(outcome.probabilities[outcome.answer]) for outcome in outcomes),
            self._reader.selection,
            self._reader.seconds,
            self._reader.flops,
        )


def load(model: str) -> Benchmark:
    """The evaluator of a sweep."""
    return Benchmark(model)


def _knobs(given: Mapping[str, str]) -> Any:
    """The knobs of a clip from text; those that are not given are at their defaults."""
    from .benchmark.script import Knobs

    known = dataclasses.asdict(Knobs())
    values = {}
    for name, text in given.items():
        if name not in known:
            raise StgraphError(f"clips have no knob {name!r}{nearest(name, known)}")
        try:
            values[name] = type(known[name])(text)
        except ValueError as error:
            raise StgraphError(f"knob {name} must be a number like {known[name]}, got {text!r}") from error
    return Knobs(**{**known, **values})
