"""Sweeps that survive: configurations × clips, every result kept in one SQLite file as soon as it is there.

``python -m experiments.sweep`` is the command line. A cell is one configuration on one clip. It is named by all that
its result depends on, so a finished one is never run again, whichever sweep asks for it.
"""

from .cells import Cell, Plan, settings_of
from .evaluator import Answers, Evaluator, OpenClip, Result
from .run import Progress, run
from .store import Store

__all__ = [
    "Answers",
    "Cell",
    "Evaluator",
    "OpenClip",
    "Plan",
    "Progress",
    "Result",
    "Store",
    "run",
    "settings_of",
]
