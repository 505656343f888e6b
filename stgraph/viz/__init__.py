"""Pictures: overlays of a selection on its frames, charts, and the graph itself.

Overlays need NumPy and Pillow only; matplotlib is imported when a chart is drawn.
"""

from .charts import community_size_chart, difference_chart, edge_weight_chart, graph_figure, kept_chart, stream_chart
from .colours import VERDICT_COLOURS, community_colours, heat_colours
from .overlay import (
    OverlayKind,
    community_overlay,
    difference_overlay,
    frame_overlay,
    frame_sheet,
    overlay_frames,
    overlay_video,
)

__all__ = [
    "VERDICT_COLOURS",
    "OverlayKind",
    "community_colours",
    "community_overlay",
    "community_size_chart",
    "difference_chart",
    "difference_overlay",
    "edge_weight_chart",
    "frame_overlay",
    "frame_sheet",
    "graph_figure",
    "heat_colours",
    "kept_chart",
    "overlay_frames",
    "overlay_video",
    "stream_chart",
]
