"""Pictures: overlays of a selection on its frames, charts, figures of communities and events, and the explorer.

Overlays and the explorer need NumPy and Pillow only; matplotlib is imported when a chart or a figure is drawn.
"""

from .charts import (
    community_size_chart,
    difference_chart,
    edge_weight_chart,
    kept_chart,
    space_time_graph,
    stream_chart,
)
from .colours import EVENT_COLOUR, VERDICT_COLOURS, community_colours, heat_colours
from .explorer import Explorer, explore
from .figures import (
    community_graph,
    community_river,
    compare_selections,
    difference_map,
    event_strip,
    filmstrip,
    merge_dendrogram,
    persistence_barcode,
    threshold_map,
)
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
