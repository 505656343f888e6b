"""How well a whole video LLM answers questions about a clip, with the tokens that a selector keeps of it.

``score=experiments.answers:accuracy``, where the environment names the model, ``STGRAPH_MODEL``, and a file of
questions, ``STGRAPH_QUESTIONS``: JSON lines such as::

    {"video": "street.mp4", "question": "Who stops?", "options": ["a cyclist", "a bus"], "answer": "a cyclist"}

``answer`` is the right option, or its letter. The encoder is the model's own, so the built-in one decides nothing here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from functools import cache
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

from stgraph import VideoQA
from stgraph.errors import StgraphError
from stgraph.selectors import Selector

from .clips import Clip
from .score import Figures

MODEL, QUESTIONS = "STGRAPH_MODEL", "STGRAPH_QUESTIONS"


class Question(NamedTuple):
    """A multiple-choice question; ``answer`` is the index of the right option."""

    text: str
    options: tuple[str, ...]
    answer: int


def accuracy(clip: Clip, selector: Selector) -> Figures:
    """Share of the clip's questions that are answered right.

    Returns:
        ``accuracy``; ``confidence``, the mean probability of the right option, which moves where no answer does; and
        ``prefill``, the mean seconds of selection and prefill.

    Raises:
        StgraphError: the environment names no model or no questions, none is about this clip, or one is malformed.
    """
    asked = _questions(_named(QUESTIONS, "a file of questions, JSON lines")).get(clip.name)
    if not asked or clip.video is None:
        raise StgraphError(
            f"there is no question about {clip.name}; name only clips with some: rendered=[] videos=[...]"
        )
    qa = dataclasses.replace(_pipeline(_named(MODEL, "a folder of a video LLM")), selector=selector)
    choices = [qa.choose(clip.video, question.text, question.options) for question in asked]
    pairs = list(zip(choices, asked, strict=True))
    return {
        "accuracy": statistics.fmean(choice.index == question.answer for choice, question in pairs),
        "confidence": statistics.fmean(choice.probabilities[question.answer] for choice, question in pairs),
        "prefill": statistics.fmean(
            choice.report.seconds["selection"] + choice.report.seconds["prefill"] for choice in choices
        ),
    }


def _named(variable: str, what: str) -> str:
    name = os.environ.get(variable)
    if not name:
        raise StgraphError(
            f"score=experiments.answers:accuracy needs {what}; name it in the environment: {variable}=..."
        )
    return name


@cache
def _pipeline(model: str) -> VideoQA:
    return VideoQA.from_pretrained(model, None)


@cache
def _questions(path: str) -> dict[str, list[Question]]:
    """The questions of a file by the name of their clip, that of its file without an ending."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise StgraphError(f"the questions {path} cannot be read: {error.strerror}; check {QUESTIONS}") from error
    found: dict[str, list[Question]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            options = tuple(map(str, row["options"]))
            right = str(row["answer"])
            answer = options.index(right) if right in options else ascii_uppercase[: len(options)].index(right)
            found.setdefault(Path(row["video"]).stem, []).append(Question(str(row["question"]), options, answer))
        except (ValueError, KeyError, TypeError) as error:
            raise StgraphError(
                f"line {number} of {path} is no question ({error!r}); expected "
                '{"video": ..., "question": ..., "options": [...], "answer": an option or its letter}'
            ) from error
    return found
