"""Charts for notebooks and papers. Each returns a matplotlib figure: show it in a notebook or ``figure.savefig`` it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..community.partition import Partition
from ..difference.base import Difference
from ..difference.events import Event
from ..errors import StgraphError, check_number
from ..graph import SpatioTemporalGraph
from ..graph.edges import TEMPORAL
from ..selectors.selection import KEPT, Selection, Verdict
from ..tokens import Grid
from ..video import Video
from .colours import (
    EVENT_COLOUR,
    SPATIAL_COLOUR,
    TEMPORAL_COLOUR,
    VERDICT_COLOURS,
    community_colours,
    community_palette,
    hexadecimal,
    rgb,
)
from .summary import difference_per_frame, one_video, verdicts_per_frame, weight_histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT, _LINE = "#1A1D21", "#5B626B", "#D5D9DE"
_EVENT = EVENT_COLOUR

MAX_DOTS = 600
"""Tokens of a frame that :func:`space_time_graph` draws at most."""


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
    _one(graph)
    figure, axes = _chart(height=3.4)
    x = _times(timestamps, frames)
    per_frame = difference_per_frame(difference, graph, frames)
    half = _slot(x) / 2
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
            color=_FAINT,
            linewidth=1,
            linestyle=(0, (4, 3)),
            label=f"{threshold_name(difference)} = {threshold:.3g}",
        )
    axes.set_ylim(0, 1.12 * max(float(per_frame.high.max()), threshold if np.isfinite(threshold) else 0.0, 0.1))
    axes.set_ylabel("difference")
    _time_axis(axes, timestamps)
    _legend(axes)
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
    figure, axes = _chart()
    counts = verdicts_per_frame(selection, grid.frames)
    x = _times(timestamps, grid.frames)
    bottom = np.zeros(grid.frames)
    for verdict, colour in VERDICT_COLOURS.items():
        if verdict in KEPT and counts[:, verdict].any():
            label = f"{verdict.name.lower()} ({counts[:, verdict].sum()})"
            axes.bar(x, counts[:, verdict], 0.86 * _slot(x), bottom, color=colour, linewidth=0, label=label)
            bottom = bottom + counts[:, verdict]
    axes.set_ylabel("kept tokens")
    _time_axis(axes, timestamps)
    _legend(axes)
    return figure


def community_size_chart(partition: Partition) -> Figure:
    """Sizes of the communities by rank, both axes logarithmic."""
    figure, axes = _chart()
    sizes = np.sort(partition.sizes.cpu().numpy())[::-1]
    if len(sizes):
        rank = np.arange(1, len(sizes) + 1)
        axes.loglog(rank, sizes, drawstyle="steps-mid", color=SPATIAL_COLOUR, linewidth=1.6)
        axes.fill_between(rank, sizes, 0.8, step="mid", color=SPATIAL_COLOUR, alpha=0.15, linewidth=0)
        axes.set_ylim(bottom=0.8)
    alone = int((sizes == 1).sum())
    axes.set_title(f"{len(sizes)} communities, {alone} of one token", loc="left", fontsize=10, color=_INK)
    axes.set_xlabel("rank")
    axes.set_ylabel("tokens")
    return figure


def edge_weight_chart(
    graph: SpatioTemporalGraph, *, similarity_threshold: float | None = None, difference_threshold: float | None = None
) -> Figure:
    """Histogram of the edge weights, spatial and temporal, with the thresholds τ_sim and τ_diff where given."""
    figure, axes = _chart()
    edges, spatial, temporal = weight_histogram(graph)
    for counts, colour, label in ((spatial, SPATIAL_COLOUR, "spatial"), (temporal, TEMPORAL_COLOUR, "temporal")):
        axes.stairs(counts, edges, color=colour, linewidth=1.4, label=label)
        axes.stairs(counts, edges, color=colour, alpha=0.18, fill=True, linewidth=0)
    for value, name in ((similarity_threshold, "τ_sim"), (difference_threshold, "τ_diff")):
        if value is not None:
            axes.axvline(value, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(f"{name} {value:g}", (value, 0.97), (4, 0), xycoords=("data", "axes fraction"),
                          textcoords="offset points", va="top", fontsize=8, color=_FAINT)  # fmt: skip
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xlabel("cosine similarity")
    axes.set_ylabel("edges")
    _legend(axes)
    return figure


def stream_chart(counts: np.ndarray, times: np.ndarray) -> Figure:
    """Kept tokens of a stream over time, stacked by verdict.

    Args:
        counts: (B, 7) mean tokens per frame of each verdict, for B spans of time.
        times: (B,) where each span begins, in seconds.
    """
    figure, axes = _chart(width=10.0)
    edges = np.append(times, times[-1] + _slot(times))
    base = np.zeros(len(counts))
    for verdict, colour in VERDICT_COLOURS.items():
        if verdict in KEPT and counts[:, verdict].any():
            top = base + counts[:, verdict]
            axes.stairs(top, edges, baseline=base, fill=True, color=colour, label=verdict.name.lower(), linewidth=0)
            base = top
    axes.set_ylim(bottom=0)
    axes.set_ylabel("kept tokens per frame")
    _time_axis(axes, times.tolist())
    _legend(axes)
    return figure


def space_time_graph(
    video: Video,
    graph: SpatioTemporalGraph,
    partition: Partition,
    grid: Grid,
    *,
    frames: Sequence[int] = (0, 1),
    difference: Difference | None = None,
    similarity_threshold: float = 0.8,
    box: tuple[int, int, int, int] | None = None,
) -> Figure:
    """The graph drawn over successive frames, which lie one above the other, the first on top.

    Vertices lie at the centres of their patches, in the colour of their community. Edges as heavy as τ_sim or heavier
    are drawn, the heavier the thicker: spatial ones inside a frame, temporal ones between two. Event vertices have a
    ring, and the temporal edge that broke there is dotted. Where a frame shows more than :data:`MAX_DOTS` tokens, only
    every second or third of a row and of a column is drawn, and the legend says so.

    Args:
        video: of the graph.
        graph: of one video, with all its edges.
        partition: of the same vertices.
        grid: (T, h, w) of the tokens.
        frames: 1 to 4 ascending frames.
        difference: marks the events, when given.
        similarity_threshold: τ_sim, below which edges are not drawn.
        box: (row, column, row, column), upper-left and, exclusive, lower-right token of the part that is shown.

    Raises:
        StgraphError: no such frame or part, too many frames, or a graph of several videos.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.transforms import Affine2D

    _one(graph)
    frames = list(frames)
    if not 1 <= len(frames) <= 4 or sorted(set(frames)) != frames or not 0 <= frames[0] <= frames[-1] < len(video):
        raise StgraphError(f"frames must be 1 to 4 ascending numbers from 0 to {len(video) - 1}, got {frames}")
    top, left, bottom, right = box or (0, 0, grid.height, grid.width)
    if not (0 <= top < bottom <= grid.height and 0 <= left < right <= grid.width):
        size = f"{grid.height} × {grid.width}"
        raise StgraphError(f"box must be (row, column, row, column) inside the grid of {size} tokens, got {box}")

    # A token is one unit high and ``patch`` units wide. Frames lie flat, seen from the front and above.
    patch = (video.width / grid.width) / (video.height / grid.height)
    rows, columns = bottom - top, (right - left) * patch
    flatten, shear = 0.5, 0.45
    depth = flatten * rows
    storey = depth + 0.18 * columns

    def project(place: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.stack([(x - left) * patch + shear * (bottom - y), place * storey + flatten * (y - top)], -1)

    coords = graph.coords.cpu().numpy()
    place_of = np.full(grid.frames, -1)
    place_of[frames] = np.arange(len(frames))
    place = place_of[coords[:, 0]]
    shown = (place >= 0) & (coords[:, 1:] >= (top, left)).all(1) & (coords[:, 1:] < (bottom, right)).all(1)
    points = project(place, coords[:, 1] + 0.5, coords[:, 2] + 0.5)
    labels = partition.labels.cpu().numpy()
    colours = community_colours(labels, partition.sizes.cpu().numpy()[labels] == 1) / 255
    marked = np.zeros(len(labels), dtype=bool) if difference is None else difference.marked.cpu().numpy()

    ends = graph.edge_index.cpu().numpy()
    weight, temporal = graph.edge_weight.cpu().numpy(), (graph.edge_kind == TEMPORAL).cpu().numpy()
    drawn = shown[ends].all(0)
    similar = drawn & (weight >= similarity_threshold)
    broken = drawn & temporal & marked[ends[1]] & ~similar
    strength = ((weight - similarity_threshold) / max(1e-6, 1 - similarity_threshold)).clip(0, 1)

    width, height = columns + shear * rows, depth + storey * (len(frames) - 1)
    figure = _figure(9.0, 9.0 * (height + 1.2) / (width + 1.2))
    axes = figure.add_axes((0, 0, 1, 1))
    unit = 9.0 * 72 / (width + 1.2)  # points of a token's height

    step = max(1, int(np.ceil(np.sqrt(rows * (right - left) / MAX_DOTS))))
    dotted = shown & ((coords[:, 1] - top) % step == 0) & ((coords[:, 2] - left) % step == 0)

    def draw(edges: np.ndarray, level: float, **style: Any) -> None:
        segments = points[ends[:, edges].T]
        axes.add_collection(LineCollection(segments, capstyle="round", zorder=level, **style))

    pixel_rows = [round(row * video.height / grid.height) for row in (top, bottom)]
    pixel_columns = [round(column * video.width / grid.width) for column in (left, right)]
    for number, t in enumerate(frames):
        # An edge between two frames is behind the upper one and before the lower one, whose vertices stay free of it.
        level = 10.0 * (len(frames) - number)
        plane = Affine2D.from_values(1, 0, -shear, flatten, shear * rows, number * storey)
        image = video.frames[t].permute(1, 2, 0).cpu().numpy()[slice(*pixel_rows), slice(*pixel_columns)]
        axes.imshow(image, extent=(0, columns, rows, 0), transform=plane + axes.transData, zorder=level)
        inside = similar & ~temporal & (place[ends[0]] == number)
        # A dark line under the white one, so that edges stand out on bright frames too.
        widths = (0.03 + 0.07 * strength[inside]) * unit
        draw(inside, level + 1, colors=_INK, linewidths=widths + 0.07 * unit, alpha=0.55)
        draw(inside, level + 1.1, colors="white", linewidths=widths, alpha=0.9)
        between = similar & temporal & (place[ends[0]] == number) & dotted[ends[0]]
        widths = (0.02 + 0.06 * strength[between]) * unit
        draw(between, level - 9.6, colors=colours[ends[0, between]], linewidths=widths, alpha=0.75)
        gone = broken & (place[ends[0]] == number) & dotted[ends[0]]
        draw(gone, level - 9.4, colors=_EVENT, linewidths=0.05 * unit, linestyles=(0, (1, 2.5)), alpha=0.8)
        here = dotted & (place == number)
        event = marked[here]
        axes.scatter(
            points[here, 0],
            points[here, 1],
            s=(0.36 * unit * step) ** 2,
            c=colours[here],
            edgecolors=np.where(event[:, None], np.array(rgb(_EVENT)) / 255, 0.1),
            linewidths=(np.where(event, 0.09, 0.03) * unit).tolist(),
            zorder=level + 2,
        )
        corner = (shear * rows, number * storey)
        axes.annotate(f"{float(video.timestamps[t]):.2f} s", corner, (-0.6 * unit, 0), textcoords="offset points",
                      ha="right", va="top", fontsize=9, color=_FAINT, zorder=100,
                      bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5})  # fmt: skip
    axes.set_xlim(-0.6, width + 0.6)
    axes.set_ylim(height + 0.6, -0.6)
    axes.set_aspect("equal")
    axes.set_axis_off()
    _graph_legend(figure, similarity_threshold, step, events=bool(marked.any()))
    return figure


def _graph_legend(figure: Figure, threshold: float, step: int, *, events: bool) -> None:
    """What is drawn, in a strip below the picture."""
    from matplotlib.lines import Line2D

    def line(**style: Any) -> Line2D:
        return Line2D([], [], **style)

    colour = hexadecimal(community_palette()[4])
    entries = [
        (line(marker="o", linestyle="", color=colour, markersize=8), "token, in its community's colour"),
        (line(color="white", linewidth=2.5, path_effects=_outlined()), f"spatial edge ≥ {threshold:g}"),
        (line(color=colour, linewidth=2.5), f"temporal edge ≥ {threshold:g}"),
    ]
    if events:
        entries.append(
            (
                line(marker="o", linestyle="", color=colour, markeredgecolor=_EVENT, markeredgewidth=2, markersize=8),
                "event",
            )
        )
        entries.append((line(color=_EVENT, linewidth=2, linestyle=(0, (1, 1.6))), "temporal edge that broke"))
    if step > 1:
        ordinal = {2: "second", 3: "third"}.get(step, f"{step}th")
        entries.append((line(linestyle=""), f"every {ordinal} token of rows and columns is drawn"))
    inches = figure.get_figheight()
    lines = 1 + (len(entries) > 5)
    figure.set_figheight(inches + 0.26 * lines)
    share = inches / (inches + 0.26 * lines)
    figure.axes[0].set_position((0, 1 - share, 1, share))
    figure.legend(
        *zip(*entries, strict=True),
        loc="lower center",
        ncols=5 if len(entries) <= 5 else 3,
        frameon=False,
        fontsize=8.5,
        labelcolor=_INK,
        handlelength=1.4,
        columnspacing=1.3,
        borderaxespad=0.1,
    )


def _outlined() -> list[Any]:
    from matplotlib import patheffects

    return [patheffects.Stroke(linewidth=4.5, foreground=_INK), patheffects.Normal()]


# -- what all charts share --------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Figure:
    # The object interface: pyplot would keep every figure alive and choose a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
    return figure


def _chart(width: float = 8.0, height: float = 3.0) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(colors=_FAINT, labelsize=8.5, length=3)
    axes.grid(axis="y", color=_LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=_FAINT, fontsize=9.5)
    return figure, axes


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=6,
            frameon=False,
            fontsize=8.5,
            labelcolor=_INK,
            handlelength=1.2,
        )


def _times(timestamps: Sequence[float] | None, frames: int) -> np.ndarray:
    check_number("frames", frames, at_least=1, integer=True)
    if timestamps is None:
        return np.arange(frames, dtype=np.float64)
    if len(timestamps) != frames:
        raise StgraphError(f"timestamps must hold one second for each of {frames} frames, got {len(timestamps)}")
    return np.array([float(second) for second in timestamps])


def _slot(x: np.ndarray) -> float:
    return float(np.median(np.diff(x))) if len(x) > 1 else 1.0


def _time_axis(axes: Axes, timestamps: Sequence[float] | None) -> None:
    axes.margins(x=0.01)
    axes.set_xlabel("frame" if timestamps is None else "seconds")


def _one(graph: SpatioTemporalGraph) -> None:
    if graph.num_videos != 1:
        raise StgraphError(f"a chart shows one video, the graph holds {graph.num_videos}; use graph.video(i)")
