"""What all matplotlib pictures share: sizes, axes, legends, and what they say when they are thinned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..community.partition import Partition
from ..errors import StgraphError, check_number
from ..graph import SpatioTemporalGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, FAINT, LINE = "#1A1D21", "#5B626B", "#D5D9DE"
"""Colours of text, of quiet text, and of lines."""

MAX_COLUMNS = 160
"""Frames that a river or a map draws at most. Of more, this many are drawn, evenly chosen."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this many inches, independent of pyplot and of any window."""
    # The object interface: pyplot would keep every figure alive and choose a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
    return figure


def new_chart(width: float = 8.0, height: float = 3.0) -> tuple[Figure, Axes]:
    """A figure with one axes: no frame but the left and lower line, a quiet grid."""
    figure = new_figure(width, height)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=3)
    axes.grid(axis="y", color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=FAINT, fontsize=9.5)
    return figure, axes


def add_legend(axes: Axes) -> None:
    """A legend above the axes, where something has a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=6,
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
            handlelength=1.2,
        )


def frame_times(timestamps: Sequence[float] | None, frames: int) -> np.ndarray:
    """(T,) seconds of the frames, or their numbers where no seconds are known."""
    check_number("frames", frames, at_least=1, integer=True)
    if timestamps is None:
        return np.arange(frames, dtype=np.float64)
    if len(timestamps) != frames:
        raise StgraphError(
            f"timestamps must hold one time in seconds for each of {frames} frames, got {len(timestamps)}"
        )
    return np.array([float(second) for second in timestamps])


def slot_width(x: np.ndarray) -> float:
    """Width of a frame on the time axis."""
    return float(np.median(np.diff(x))) if len(x) > 1 else 1.0


def label_time(axes: Axes, timestamps: Sequence[float] | None) -> None:
    """Name the time axis."""
    axes.margins(x=0.01)
    axes.set_xlabel("frame" if timestamps is None else "seconds")


def check_one_video(graph: SpatioTemporalGraph) -> None:
    """Raise :class:`StgraphError` unless the graph is of one video."""
    if graph.num_videos != 1:
        raise StgraphError(f"a chart shows one video, but the graph holds {graph.num_videos}; use graph.video(i)")


def check_partition(partition: Partition, graph: SpatioTemporalGraph) -> None:
    """Raise :class:`StgraphError` unless the partition is of the graph's vertices."""
    if len(partition.labels) != graph.num_nodes:
        raise StgraphError(
            f"the partition has {len(partition.labels)} vertices, the graph has {graph.num_nodes}; give a partition "
            "of this graph"
        )


def drawn_frames(frames: int) -> np.ndarray:
    """Numbers of the frames that are drawn."""
    return np.linspace(0, frames - 1, min(frames, MAX_COLUMNS)).round().astype(int)


def say_thinned(axes: Axes, drawn: int, frames: int, how: str = "the others are left out") -> None:
    """Say above the axes that not all frames are drawn."""
    if drawn < frames:
        text = f"{drawn} of {frames:,} frames: {how}"
        add_note(axes, text, (1, 1), (0, 4), xycoords="axes fraction", ha="right", fontsize=8, color=FAINT)


def add_note(axes: Axes, text: str, place: Any, offset: tuple[float, float], **style: Any) -> None:
    """Text at a place, moved by some points."""
    axes.annotate(text, place, offset, textcoords="offset points", **style)


def colour_legend(where: Any, entries: Sequence[tuple[str, str]]) -> None:
    """A legend of colours above an axes, or in the upper left corner of a figure."""
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, label=text) for colour, text in entries]
    place: dict[str, Any] = (
        {"loc": "lower left", "bbox_to_anchor": (0, 1)}
        if isinstance(where, Axes)
        else {"loc": "upper left", "bbox_to_anchor": (0, 1)}
    )
    where.legend(
        handles=handles,
        ncols=8,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=1.0,
        handleheight=0.9,
        columnspacing=1.4,
        borderaxespad=0.2,
        **place,
    )
