"""Which clips and questions there are to train on, to choose settings with, and to be judged by."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from stgraph import StgraphError

from .painting import Clip, paint
from .questions import Question, ask
from .script import Knobs, Script, write_script

VERSION = "2"
"""Changes whenever clips, questions or their order do."""

SPLITS = {"test": 2100, "validation": 300, "quick": 60}
"""Split -> clips. The test split has over 12,000 questions; settings are chosen on the validation split only."""

QUESTIONS = 6
"""Of each clip, of different types."""


class Asked(NamedTuple):
    """A clip and the questions about it."""

    clip: Clip
    questions: list[Question]


def load_clip(split: str, number: int, knobs: Knobs | None = None) -> Asked:
    """Paint a clip of a split.

    Args:
        split: one of ``SPLITS``.
        number: of the clip, from 0.
        knobs: how difficult it is; the defaults when None. Knobs of looks (noise, compression, clutter, motion) leave
            what happens as it is.

    Raises:
        StgraphError: no such split or clip.
    """
    if split not in SPLITS:
        raise StgraphError(f"there is no split {split!r}; take one of {', '.join(SPLITS)}")
    if not 0 <= number < SPLITS[split]:
        raise StgraphError(f"the split {split} has clips 0 to {SPLITS[split] - 1}, got {number}")
    clip = paint(write_script(f"{split} {number}", knobs or Knobs()))
    return Asked(clip, ask(clip, most=QUESTIONS))


def digest(script: Script) -> str:
    """Of all that a clip shows, whatever its name."""
    shown = [(scene.start, scene.stop, scene.things) for scene in script.scenes]
    return hashlib.sha256(repr(shown).encode()).hexdigest()
