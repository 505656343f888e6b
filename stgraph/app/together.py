"""Several videos in one batch: a question about each of them, answered together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import compat
from .answers import Answer, reset_peak
from .batching import padded
from .engine import Engine
from .session import VideoSession


def ask_together(
    engine: Engine, sessions: Sequence[VideoSession], questions: Sequence[str], generation: Mapping[str, Any]
) -> list[Answer] | None:
    """Answer a question about each of several videos in one batch, padded on the left.

    Returns:
        The answers, with their shares of the seconds; None where the videos' inputs cannot stand in one batch, because
        their frames are of different numbers or sizes.
    """
    clock = engine.clock()
    rows = [session.inputs([(question, None)], clock) for session, question in zip(sessions, questions, strict=True)]
    whole = padded(rows)
    if whole is None:
        return None
    for session, one in zip(sessions, rows, strict=True):
        positions = compat.prompt_positions(engine.model, one)
        engine.check_length(one, positions, generation.get("max_new_tokens", engine.max_new_tokens), session.video)
    reset_peak(engine.device)
    found = engine.generate(whole, generation, clock)
    answers = []
    for row, (session, question) in enumerate(zip(sessions, questions, strict=True)):
        own = found._replace(selection=None if found.selection is None else found.selection.video(row))
        report = engine.report(rows[row], own, row, clock, session.video)
        text = engine.prompt.words(found.rows[row])
        answers.append(Answer(text, own.selection, report, session.video, None, question))
    return answers
