"""stgraph: graph analytics for video-token compression.

A video's visual tokens become one sparse spatiotemporal graph; similarity on it finds what is redundant, difference on
it finds what happens, and together they choose the few tokens that a video LLM needs (ST-SimDiff, ICLR 2026).

Importing this package imports nothing heavy: each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and documentation read; the table below is what runs
    from .app.ask import Answer as Answer
    from .app.ask import VideoQA as VideoQA
    from .app.config import preset as preset
    from .app.many import Outcome as Outcome
    from .app.many import compress_many as compress_many
    from .community.partition import Partition as Partition
    from .difference.base import Difference as Difference
    from .difference.events import Event as Event
    from .errors import StgraphError as StgraphError
    from .graph import SpatioTemporalGraph as SpatioTemporalGraph
    from .graph import build_graph as build_graph
    from .graph.edges import MotionEdges as MotionEdges
    from .graph.edges import SpatialEdges as SpatialEdges
    from .graph.edges import TemporalEdges as TemporalEdges
    from .graph.merge_tree import MergeTree as MergeTree
    from .graph.merge_tree import merge_tree as merge_tree
    from .selectors.base import Selector as Selector
    from .selectors.selection import Selection as Selection
    from .selectors.selection import Verdict as Verdict
    from .selectors.simdiff import STSimDiff as STSimDiff
    from .selectors.streaming import StreamWindow as StreamWindow
    from .selectors.streaming import stream as stream
    from .signals import Signals as Signals
    from .tokens import Grid as Grid
    from .tokens import VideoTokens as VideoTokens
    from .video import Video as Video
    from .video import read_blocks as read_blocks
    from .video import read_video as read_video
    from .video import write_video as write_video

__version__ = "0.1.0"

_EXPORTS = {
    "StgraphError": "errors",
    "Grid": "tokens",
    "VideoTokens": "tokens",
    "Signals": "signals",
    "Video": "video",
    "read_blocks": "video",
    "read_video": "video",
    "write_video": "video",
    "SpatialEdges": "graph.edges",
    "TemporalEdges": "graph.edges",
    "MotionEdges": "graph.edges",
    "SpatioTemporalGraph": "graph",
    "build_graph": "graph",
    "MergeTree": "graph.merge_tree",
    "merge_tree": "graph.merge_tree",
    "Partition": "community.partition",
    "Difference": "difference.base",
    "Event": "difference.events",
    "Selection": "selectors.selection",
    "Selector": "selectors.base",
    "STSimDiff": "selectors.simdiff",
    "Verdict": "selectors.selection",
    "Outcome": "app.many",
    "compress_many": "app.many",
    "StreamWindow": "selectors.streaming",
    "stream": "selectors.streaming",
    "Answer": "app.ask",
    "VideoQA": "app.ask",
    "preset": "app.config",
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
