"""Maps: difference over time and position, a measure over two thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import StgraphError
from ..selectors.selection import Selection
from ..tokens import Grid
from .colours import (
    EVENT_COLOUR,
    heat_colours,
    rgb,
)
from .drawing import (
    FAINT,
    INK,
    MAX_COLUMNS,
    colour_legend,
    frame_times,
    new_chart,
    say_thinned,
    slot_width,
)
from .summary import (
    one_video,
    token_grid,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def difference_map(selection: Selection, grid: Grid, *, timestamps: Sequence[float] | None = None) -> Figure:
    """Difference from the past over time and position: a column per frame, a line per position in raster order.

    Event tokens are orange. Of more than :data:`MAX_COLUMNS` frames, neighbours share a column, which shows the largest
    difference among them.

    Args:
        selection: of one video.
        grid: (T, h, w) of its tokens.
        timestamps: (T,) seconds; frame numbers are shown when not given.
    """
    from matplotlib.colors import ListedColormap

    one_video(selection, grid)
    figure, axes = new_chart(width=9.0, height=3.8)
    x = frame_times(timestamps, grid.frames)
    score = token_grid(selection.difference.float(), selection.coords, grid, 0.0).reshape(grid.frames, -1)
    event = token_grid((selection.candidate & 2) > 0, selection.coords, grid, False).reshape(grid.frames, -1)
    columns = min(grid.frames, MAX_COLUMNS)
    starts = np.arange(columns) * grid.frames // columns
    score, event = np.maximum.reduceat(score, starts), np.logical_or.reduceat(event, starts)
    high = max(1e-6, float(score.max()))
    pixels = np.where(event.T[..., None], np.array(rgb(EVENT_COLOUR)), heat_colours(score.T / high)).astype(np.uint8)
    half = slot_width(x) / 2
    axes.imshow(pixels, aspect="auto", interpolation="nearest", extent=(x[0] - half, x[-1] + half, grid.height, 0))
    axes.grid(visible=False)
    axes.set_ylabel("row (in it the columns)")
    axes.set_xlabel("frame" if timestamps is None else "seconds")
    scale = figure.colorbar(
        _mappable(high, ListedColormap(heat_colours(np.linspace(0, 1, 128)) / 255)), ax=axes, pad=0.01, fraction=0.03
    )
    scale.set_label("difference", color=FAINT, fontsize=9)
    scale.ax.tick_params(labelsize=8, colors=FAINT)
    scale.outline.set_visible(False)
    colour_legend(axes, [(EVENT_COLOUR, f"event tokens ({int(((selection.candidate & 2) > 0).sum()):,})")])
    say_thinned(axes, columns, grid.frames, "neighbouring frames share a column")
    return figure


def threshold_map(
    values: np.ndarray,
    columns: Sequence[float],
    rows: Sequence[float],
    *,
    title: str = "",
    column_name: str = "τ_sim",
    row_name: str = "τ_diff",
    markers: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """A measure over two thresholds. A marker outside the grid is an arrow at its edge that says where it is.

    Args:
        values: (len(rows), len(columns)) numbers, NaN where nothing was measured.
        columns: ascending thresholds from left to right.
        rows: ascending thresholds from bottom to top.
        title: above the map.
        column_name: of the horizontal axis.
        row_name: of the vertical axis.
        markers: (column, row) thresholds by name.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise StgraphError(
            f"values must be ({len(rows)}, {len(columns)}) numbers, one for each pair, got {values.shape}"
        )
    for name, axis in (("columns", columns), ("rows", rows)):
        if any(b <= a for a, b in itertools.pairwise(axis)):
            raise StgraphError(f"{name} must be strictly ascending thresholds, got {list(axis)}")
    figure, axes = new_chart(width=max(4.2, 1.6 + 0.62 * len(columns)), height=max(2.6, 1.3 + 0.42 * len(rows)))
    axes.grid(visible=False)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    level = 0.12 + 0.85 * (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12)
    shades = np.where(np.isfinite(values)[..., None], heat_colours(level), np.array(rgb("#EEF1F4"))).astype(np.uint8)
    axes.imshow(shades, origin="lower", aspect="auto")
    middle = (known.min() + known.max()) / 2 if known.size else 0.0
    for (r, c), value in np.ndenumerate(values):
        text = "–" if not np.isfinite(value) else f"{value:.3g}"
        axes.text(
            c,
            r,
            text,
            ha="center",
            va="center",
            fontsize=7.5,
            color=INK if not np.isfinite(value) or value > middle else "white",
        )
    axes.set_xticks(range(len(columns)), [f"{v:g}" for v in columns])
    axes.set_yticks(range(len(rows)), [f"{v:g}" for v in rows])
    axes.set_xlabel(column_name)
    axes.set_ylabel(row_name)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    for name, (column, row) in (markers or {}).items():
        x, outside_x = _place(column, columns)
        y, outside_y = _place(row, rows)
        if outside_x or outside_y:
            angle = {(-1, 0): "<", (1, 0): ">", (0, -1): "v", (0, 1): "^"}.get((outside_x, outside_y), "X")
            axes.plot(
                [x], [y], marker=angle, markersize=11, color="white", markeredgecolor=INK, clip_on=False, zorder=5
            )
            label = f"{name} at ({column:.3g}, {row:.3g}), outside"
        else:
            for colour, edge in (("white", 4.0), (INK, 1.6)):
                axes.plot(
                    [x],
                    [y],
                    marker="o",
                    markersize=27,
                    color="none",
                    markeredgecolor=colour,
                    markeredgewidth=edge,
                    zorder=5,
                )
            label = name
        axes.annotate(label, (x, y), (12, 13), textcoords="offset points", fontsize=8, color=INK, zorder=7,
                      bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1.2})  # fmt: skip
    return figure


def _place(value: float, axis: Sequence[float]) -> tuple[float, int]:
    """Where a threshold lies among the cells of an axis, and −1 or 1 where it lies before or behind them."""
    if value < axis[0]:
        return -0.5, -1
    if value > axis[-1]:
        return len(axis) - 0.5, 1
    return float(np.interp(value, axis, np.arange(len(axis)))), 0


def _mappable(high: float, colours: Any) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, high), colours)
