"""What ``stgraph ask`` does: questions about one video, answers printed as they come or as one JSON object."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..errors import StgraphError, check_number
from .answers import Answer, AnswerReport, Choice, check_question
from .session import VideoSession

SETTING = re.compile(r"[A-Za-z_][\w.]*=\S.*")
"""Pattern of a setting on the command line; other words are questions."""


def questions_and_settings(words: Sequence[str], questions: Sequence[str]) -> tuple[list[str], list[str]]:
    """The questions and the settings among the words behind the video.

    The first word is a question, unless questions are given by name and it looks like a setting.

    Raises:
        StgraphError: there is no question, or an empty one.
    """
    first = list(words[:1])
    if questions and first and SETTING.fullmatch(first[0]):
        first = []
    found = [*first, *questions]
    if not found:
        raise StgraphError('there is no question; write it behind the video, such as: stgraph ask clip.mp4 "Who runs?"')
    for question in found:
        check_question(question)
    return found, list(words[len(first) :])


def generation(
    temperature: float, top_p: float | None, top_k: int | None, repetition_penalty: float | None
) -> dict[str, Any]:
    """Arguments of ``generate`` from options of the command line.

    Raises:
        StgraphError: a number out of range, or settings of sampling where nothing is sampled.
    """
    check_number("temperature", temperature, at_least=0)
    if top_p is not None:
        check_number("top_p", top_p, above=0, at_most=1)
    if top_k is not None:
        check_number("top_k", top_k, at_least=1, integer=True)
    if repetition_penalty is not None:
        check_number("repetition_penalty", repetition_penalty, above=0)
    given = {"top_p": top_p, "top_k": top_k}
    told = {name: value for name, value in given.items() if value is not None}
    if told and not temperature:
        raise StgraphError(
            f"{' and '.join(told)} only have an effect when tokens are sampled; add a --temperature above 0"
        )
    if temperature:
        told |= {"do_sample": True, "temperature": temperature}
    return told if repetition_penalty is None else told | {"repetition_penalty": repetition_penalty}


class Printer(Protocol):
    """Shows questions and answers to the user while they are worked on."""

    streams: bool
    """Whether :meth:`piece` is to be called."""

    def begin(self, question: str) -> None:
        """Called before a question is asked."""

    def piece(self, text: str) -> None:
        """Called with each new piece of the answer."""

    def end(self, answer: Answer) -> None:
        """Called with the finished answer."""


def ask_all(
    session: VideoSession, questions: Sequence[str], options: Sequence[str], told: Mapping[str, Any], printer: Printer
) -> list[Answer]:
    """The answers to all questions, in their order.

    With ``options``, an answer is the one of them that the model chooses. Where nothing is streamed, the questions go
    through the model in one batch.

    Args:
        session: that was entered.
        questions: at least one.
        options: none, or 2 to 26.
        told: arguments of ``generate``.
        printer: called with each question and answer.
    """
    once = len(questions) == 1
    if not options and not printer.streams:
        answers = session.answers(questions, (), (), None, told, once=once)
        for answer in answers:
            printer.begin(answer.question)
            printer.end(answer)
        return answers
    answers = []
    for question in questions:
        printer.begin(question)
        if options:
            choice = session.chosen(question, options, once=once)
            answers.append(chosen(choice, question, options, session))
        else:
            answers += session.answers([question], (), (), printer.piece, told, once=once)
        printer.end(answers[-1])
    return answers


def chosen(choice: Choice, question: str, options: Sequence[str], session: VideoSession) -> Answer:
    """A choice as an answer in words."""
    text = f"{choice.letter}. {options[choice.index]}"
    return Answer(text, choice.selection, choice.report, choice.video, session.tokens, question, choice)


def record(answers: Sequence[Answer], once: Mapping[str, float], **more: Any) -> dict[str, Any]:
    """The object that ``--json`` prints: of one question flat, of several with a list ``answers``.

    Args:
        answers: at least one.
        once: seconds of the stages that all answers share.
        more: plain data that stands first.
    """
    items = [_item(answer) for answer in answers]
    report = answers[0].report
    shared = {
        **more,
        "frames": report.frames,
        "trim": report.trim,
        "device": report.device,
        "dtype": report.dtype,
        "peak_memory": max((a.report.peak_memory or 0 for a in answers), default=0) or None,
        "notes": list(answers[0].notes),
    }
    if len(items) == 1:
        return shared | items[0] | {"seconds": report.beside(once).seconds}
    return shared | {"seconds": together(answers, once).seconds, "answers": items}


def together(answers: Sequence[Answer], once: Mapping[str, float]) -> AnswerReport:
    """The report of the first answer with the seconds of all of them."""
    report = answers[0].report.beside(once)
    for answer in answers[1:]:
        report = report.beside(answer.report.seconds)
    return report


def _item(answer: Answer) -> dict[str, Any]:
    report, choice = answer.report, answer.choice
    item: dict[str, Any] = {"question": answer.question, "answer": answer.text}
    if choice is not None:
        item |= {"index": choice.index, "letter": choice.letter, "probabilities": list(choice.probabilities)}
    return item | {
        "tokens": report.tokens,
        "kept": report.kept,
        "prompt": report.prompt,
        "prompt_kept": report.prompt_kept,
        "generated": report.generated,
        "seconds": report.seconds,
        "digest": None if answer.selection is None else answer.selection.digest,
    }
