"""stgraph: graph analytics for video-token compression.

A video's visual tokens become one sparse spatiotemporal graph; similarity on it finds what is redundant, difference on
it finds what happens, and together they choose the few tokens that a video LLM needs (ST-SimDiff, ICLR 2026).

Importing this package imports nothing heavy: each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "StgraphError": "errors",
    "Grid": "tokens",
    "VideoTokens": "tokens",
    "Signals": "signals",
    "Video": "video",
    "read_video": "video",
    "write_video": "video",
    "SpatialEdges": "edges",
    "TemporalEdges": "edges",
    "MotionEdges": "edges",
    "SpatioTemporalGraph": "graph",
    "build_graph": "graph",
    "MergeTree": "merge_tree",
    "merge_tree": "merge_tree",
    "Partition": "community.partition",
    "Difference": "difference.base",
    "Event": "difference.events",
    "Selection": "selectors.selection",
    "Selector": "selectors.base",
    "STSimDiff": "selectors.simdiff",
    "Verdict": "selectors.selection",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
