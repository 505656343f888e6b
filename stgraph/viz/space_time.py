"""The space-time graph drawn over successive frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..community.partition import Partition
from ..difference.base import Difference
from ..errors import StgraphError
from ..graph import SpatioTemporalGraph
from ..graph.edges import TEMPORAL
from ..tokens import Grid
from ..video import Video
from .colours import (
    EVENT_COLOUR,
    community_colours,
    community_palette,
    hexadecimal,
    rgb,
)
from .drawing import (
    FAINT,
    INK,
    check_one_video,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MAX_DOTS = 600
"""Tokens of a frame that :func:`space_time_graph` draws at most."""


_EVENT = EVENT_COLOUR


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

    check_one_video(graph)
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
    figure = new_figure(9.0, 9.0 * (height + 1.2) / (width + 1.2))
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
        draw(inside, level + 1, colors=INK, linewidths=widths + 0.07 * unit, alpha=0.55)
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
                      ha="right", va="top", fontsize=9, color=FAINT, zorder=100,
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
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.3,
        borderaxespad=0.1,
    )


def _outlined() -> list[Any]:
    from matplotlib import patheffects

    return [patheffects.Stroke(linewidth=4.5, foreground=INK), patheffects.Normal()]
