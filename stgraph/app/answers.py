"""Answers of a video LLM, what they rest on and what they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import torch

from ..errors import StgraphError
from ..models.attachment import Trim
from ..selectors.selection import Selection
from ..tokens import VideoTokens
from ..video import Video


@dataclass(frozen=True)
class AnswerReport:
    """What an answer took.

    Attributes:
        frames: sampled from the video.
        tokens: visual tokens of the video, separators included.
        kept: those that the LLM saw (with ``trim="inside"``: from its trimming layer on).
        trim: where tokens were dropped, ``"before"`` the LLM or ``"inside"`` it; None without a selector.
        prompt: tokens of the whole prompt before anything was dropped.
        generated: tokens of the answer.
        seconds: of each of :data:`~stgraph.app.stages.STAGES`. In a session, what this answer took by itself; what was
            done once for all is in :attr:`VideoSession.seconds`. In a batch, its share.
        peak_memory: bytes. On CUDA what torch allocated at most during this answer, on the CPU the most that the
            process ever held; None where the system does not tell.
        device: that the model is on.
        dtype: of the model.
    """

    frames: int
    tokens: int
    kept: int
    trim: Trim | None
    prompt: int
    generated: int
    seconds: dict[str, float]
    peak_memory: int | None
    device: str
    dtype: str

    @property
    def prompt_kept(self) -> int:
        """Tokens of the prompt that the LLM saw."""
        return self.prompt - self.tokens + self.kept

    def beside(self, once: Mapping[str, float]) -> AnswerReport:
        """This report with ``seconds`` added: time that was spent once for this answer, or its share of it."""
        return replace(self, seconds={stage: once[stage] + seconds for stage, seconds in self.seconds.items()})


@dataclass(frozen=True, eq=False)
class Choice:
    """The answer to a multiple-choice question.

    Attributes:
        index: of the chosen option.
        probabilities: of all options, as first words of the answer and among each other; they sum to 1.
        selection: which tokens were kept and why; None without a selector.
        report: tokens, seconds and memory.
        video: the sampled frames.
    """

    index: int
    probabilities: tuple[float, ...]
    selection: Selection | None
    report: AnswerReport
    video: Video

    @property
    def letter(self) -> str:
        """Letter of the chosen option, A for the first."""
        return ascii_uppercase[self.index]


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer and what it rests on.

    Attributes:
        text: of the answer.
        selection: which tokens were kept and why; None without a selector.
        report: tokens, seconds and memory.
        video: the sampled frames.
        tokens: of the video, as the LLM would have seen them; None unless asked for.
        question: that it answers.
        choice: among options, where the question had some.
    """

    text: str
    selection: Selection | None
    report: AnswerReport
    video: Video
    tokens: VideoTokens | None = None
    question: str = ""
    choice: Choice | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader and the selector said that a user should know."""
        return (*self.video.notes, *(self.selection.notes if self.selection else ()))


def check_question(question: object) -> None:
    """Raise :class:`StgraphError` unless there is one question, and something in it."""
    if not isinstance(question, str):
        many = f"{len(question)} of them" if isinstance(question, (list, tuple)) else type(question).__name__
        raise StgraphError(
            f"a question is one text, got {many}; ask several with: with qa.video(...) as v: v.ask_all(questions)"
        )
    if not question.strip():
        raise StgraphError("the question is empty; ask something about the video")


def options_asked(question: str, options: Sequence[str]) -> str:
    """The text of a multiple-choice question for the model.

    Raises:
        StgraphError: too few or too many options, or one that is given twice.
    """
    if isinstance(options, str) or not 2 <= len(options) <= len(ascii_uppercase):
        got = "a single text" if isinstance(options, str) else len(options)
        raise StgraphError(f"a question must have 2 to {len(ascii_uppercase)} options to choose from, got {got}")
    twice = [option for number, option in enumerate(options) if option in options[:number]]
    if twice:
        raise StgraphError(f"the option {twice[0]!r} is given twice; give each option once")
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    return "\n".join([question, *lines, "Answer with the option's letter from the given choices directly."])


def letters_of(tokenizer: Any, count: int) -> list[int]:
    """Ids of the first ``count`` capital letters.

    Raises:
        StgraphError: the tokenizer splits single letters.
    """
    ids = [tokenizer.encode(letter, add_special_tokens=False) for letter in ascii_uppercase[:count]]
    if any(len(pieces) != 1 for pieces in ids):
        raise StgraphError(
            "the tokenizer has no single token for each option's letter, so it cannot choose; ask without options"
        )
    return [pieces[0] for pieces in ids]


def reset_peak(device: torch.device) -> None:
    """Reset the peak of the memory of the device, where the device has such a counter."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    """Bytes that were held at most: on CUDA since :func:`reset_peak`, else since the process began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
