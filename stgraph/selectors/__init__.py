"""Selectors: tokens → :class:`Selection`. One file each; add a line to the table to register another.

A subpackage of stgraph, because a top-level ``selectors`` would shadow the standard library's module of that name.
"""

from ..registry import Registry
from .base import Ranking, Selector
from .selection import Selection, Verdict

SELECTORS: Registry[Selector] = Registry(
    "selector",
    "stgraph.selectors.base:Selector",
    {
        "simdiff": "stgraph.selectors.simdiff:STSimDiff",
        "random": "stgraph.selectors.random:RandomSelector",
        "uniform": "stgraph.selectors.uniform:UniformSelector",
    },
)

__all__ = ["SELECTORS", "Ranking", "Selection", "Selector", "Verdict"]
