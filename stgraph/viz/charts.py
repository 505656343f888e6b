"""Charts for notebooks and papers. Each returns a matplotlib figure: show it in a notebook or ``figure.savefig`` it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..community.partition import Partition
from ..difference.base import Difference
from ..difference.events import Event
from ..graph import SpatioTemporalGraph
from ..selectors.selection import KEPT, Selection, Verdict
from ..tokens import Grid
from .colours import (
    EVENT_COLOUR,
    SPATIAL_COLOUR,
    TEMPORAL_COLOUR,
    VERDICT_COLOURS,
)
from .drawing import (
    FAINT,
    INK,
    add_legend,
    check_one_video,
    frame_times,
    label_time,
    new_chart,
    slot_width,
)
from .summary import (
    difference_per_frame,
    one_video,
    verdicts_per_frame,
    weight_histogram,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_EVENT = EVENT_COLOUR


def difference_chart(
    difference: Difference,
    graph: SpatioTemporalGraph,
    frames: int,
    *,
    timestamps: Sequence[float] | None = None,
    events: Sequence[Event] | None = None,
) -> Figure:
    """Difference from the past over time: mean and 95th percentile of each frame, event tokens as bars.

    A ribbon along the top spans each event from its first to its last frame, darker where events overlap.

    Args:
        difference: of one video.
        graph: the graph that it was computed on.
        frames: number T of frames.
        timestamps: (T,) seconds; frame numbers are shown when not given.
        events: which events to mark; those of ``difference`` when not given.
    """
    check_one_video(graph)
    figure, axes = new_chart(height=3.4)
    x = frame_times(timestamps, frames)
    per_frame = difference_per_frame(difference, graph, frames)
    half = slot_width(x) / 2
    for event in difference.events(graph) if events is None else events:
        since, until = x[event.first_frame] - half, x[event.last_frame] + half
        axes.axvspan(since, until, 0.965, 1, color=_EVENT, alpha=0.3, linewidth=0)
    bars = axes.twinx()
    bars.bar(x, per_frame.marked, width=1.6 * half, color=_EVENT, alpha=0.55, linewidth=0)
    bars.set_ylabel("event tokens", color=_EVENT, fontsize=9.5)
    bars.set_ylim(0, max(1, per_frame.marked.max()) * 2.2)
    bars.spines[:].set_visible(False)
    bars.tick_params(length=0, labelcolor=_EVENT, labelsize=8.5)
    axes.set_zorder(bars.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.plot(x, per_frame.high, color=SPATIAL_COLOUR, linewidth=1.6, label="95th percentile")
    axes.plot(x, per_frame.mean, color=VERDICT_COLOURS[Verdict.REPRESENTATIVE], linewidth=1.6, label="mean")
    threshold = difference.threshold[0] if difference.threshold else np.inf
    if np.isfinite(threshold):
        axes.axhline(
            threshold,
            color=FAINT,
            linewidth=1,
            linestyle=(0, (4, 3)),
            label=f"{threshold_name(difference)} = {threshold:.3g}",
        )
    axes.set_ylim(0, 1.12 * max(float(per_frame.high.max()), threshold if np.isfinite(threshold) else 0.0, 0.1))
    axes.set_ylabel("difference")
    label_time(axes, timestamps)
    add_legend(axes)
    return figure


def threshold_name(difference: Difference) -> str:
    """Detectors that compare a similarity with τ_diff mark differences above 1 − τ_diff; others have a threshold."""
    return "1 − τ_diff" if "threshold" in difference.method else "threshold"


def kept_chart(selection: Selection, grid: Grid, *, timestamps: Sequence[float] | None = None) -> Figure:
    """Kept tokens of each frame, stacked by verdict, of one video.

    Args:
        selection: of one video.
        grid: (T, h, w) of its tokens.
        timestamps: (T,) seconds; frame numbers are shown when not given.
    """
    one_video(selection, grid)
    figure, axes = new_chart()
    counts = verdicts_per_frame(selection, grid.frames)
    x = frame_times(timestamps, grid.frames)
    bottom = np.zeros(grid.frames)
    for verdict, colour in VERDICT_COLOURS.items():
        if verdict in KEPT and counts[:, verdict].any():
            label = f"{verdict.name.lower()} ({counts[:, verdict].sum()})"
            axes.bar(x, counts[:, verdict], 0.86 * slot_width(x), bottom, color=colour, linewidth=0, label=label)
            bottom = bottom + counts[:, verdict]
    axes.set_ylabel("kept tokens")
    label_time(axes, timestamps)
    add_legend(axes)
    return figure


def community_size_chart(partition: Partition) -> Figure:
    """Sizes of the communities by rank, both axes logarithmic."""
    figure, axes = new_chart()
    sizes = np.sort(partition.sizes.cpu().numpy())[::-1]
    if len(sizes):
        rank = np.arange(1, len(sizes) + 1)
        axes.loglog(rank, sizes, drawstyle="steps-mid", color=SPATIAL_COLOUR, linewidth=1.6)
        axes.fill_between(rank, sizes, 0.8, step="mid", color=SPATIAL_COLOUR, alpha=0.15, linewidth=0)
        axes.set_ylim(bottom=0.8)
    alone = int((sizes == 1).sum())
    axes.set_title(f"{len(sizes)} communities, {alone} of one token", loc="left", fontsize=10, color=INK)
    axes.set_xlabel("rank")
    axes.set_ylabel("tokens")
    return figure


def edge_weight_chart(
    graph: SpatioTemporalGraph, *, similarity_threshold: float | None = None, difference_threshold: float | None = None
) -> Figure:
    """Histogram of the edge weights, spatial and temporal, with the thresholds τ_sim and τ_diff where given."""
    figure, axes = new_chart()
    edges, spatial, temporal = weight_histogram(graph)
    for counts, colour, label in ((spatial, SPATIAL_COLOUR, "spatial"), (temporal, TEMPORAL_COLOUR, "temporal")):
        axes.stairs(counts, edges, color=colour, linewidth=1.4, label=label)
        axes.stairs(counts, edges, color=colour, alpha=0.18, fill=True, linewidth=0)
    for value, name in ((similarity_threshold, "τ_sim"), (difference_threshold, "τ_diff")):
        if value is not None:
            axes.axvline(value, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(f"{name} {value:g}", (value, 0.97), (4, 0), xycoords=("data", "axes fraction"),
                          textcoords="offset points", va="top", fontsize=8, color=FAINT)  # fmt: skip
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xlabel("cosine similarity")
    axes.set_ylabel("edges")
    add_legend(axes)
    return figure


def stream_chart(counts: np.ndarray, times: np.ndarray) -> Figure:
    """Kept tokens of a stream over time, stacked by verdict.

    Args:
        counts: (B, 7) mean tokens per frame of each verdict, for B spans of time.
        times: (B,) where each span begins, in seconds.
    """
    figure, axes = new_chart(width=10.0)
    edges = np.append(times, times[-1] + slot_width(times))
    base = np.zeros(len(counts))
    for verdict, colour in VERDICT_COLOURS.items():
        if verdict in KEPT and counts[:, verdict].any():
            top = base + counts[:, verdict]
            axes.stairs(top, edges, baseline=base, fill=True, color=colour, label=verdict.name.lower(), linewidth=0)
            base = top
    axes.set_ylim(bottom=0)
    axes.set_ylabel("kept tokens per frame")
    label_time(axes, times.tolist())
    add_legend(axes)
    return figure
