"""Pictures: overlays of a selection on its frames, charts, figures of communities and events, and the explorer.

Overlays and the explorer need NumPy and Pillow only; matplotlib is imported when a chart or a figure is drawn.
"""

from .charts import community_size_chart, difference_chart, edge_weight_chart, kept_chart, stream_chart
from .colours import EVENT_COLOUR, VERDICT_COLOURS, community_colours, heat_colours
from .communities import community_graph, community_river
from .explorer import Explorer, explore
from .maps import difference_map, threshold_map
from .merges import merge_dendrogram, persistence_barcode
from .overlay import (
    OverlayKind,
    community_overlay,
    difference_overlay,
    frame_overlay,
    frame_sheet,
    overlay_frames,
    overlay_video,
)
from .scene import KINDS, Scene, scene
from .space_time import space_time_graph
from .strips import compare_selections, event_strip, filmstrip

__all__ = [
    "EVENT_COLOUR",
    "KINDS",
    "VERDICT_COLOURS",
    "Explorer",
    "OverlayKind",
    "Scene",
    "community_colours",
    "community_graph",
    "community_overlay",
    "community_river",
    "community_size_chart",
    "compare_selections",
    "difference_chart",
    "difference_map",
    "difference_overlay",
    "edge_weight_chart",
    "event_strip",
    "explore",
    "filmstrip",
    "frame_overlay",
    "frame_sheet",
    "heat_colours",
    "kept_chart",
    "merge_dendrogram",
    "overlay_frames",
    "overlay_video",
    "persistence_barcode",
    "scene",
    "space_time_graph",
    "stream_chart",
    "threshold_map",
]
