"""Pictures of communities: over time as a river, and as a graph of their own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..community.partition import Partition
from ..difference.events import Event
from ..errors import check_number
from ..graph import SpatioTemporalGraph
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
    add_note,
    check_one_video,
    check_partition,
    colour_legend,
    drawn_frames,
    frame_times,
    new_chart,
    say_thinned,
    slot_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_REST_COLOUR = "#C9CED6"


def community_river(
    partition: Partition,
    graph: SpatioTemporalGraph,
    frames: int,
    *,
    timestamps: Sequence[float] | None = None,
    events: Sequence[Event] = (),
    communities: int = 12,
) -> Figure:
    """Tokens per frame by community, as a river: where a position changes its community, a band flows to another.

    The largest communities have bands of their own in their own colours, all others share a grey one. Bands that part
    are splits, bands that meet are merges. An orange line marks the peak of each event.

    Args:
        partition: of the vertices of ``graph``.
        graph: of one video.
        frames: number T of frames.
        timestamps: (T,) seconds; frame numbers are shown when not given.
        events: to be marked, those of at least two tokens.
        communities: how many have a band of their own, ≥ 1.
    """
    from matplotlib.collections import PolyCollection

    check_one_video(graph)
    check_partition(partition, graph)
    check_number("communities", communities, at_least=1, integer=True)
    figure, axes = new_chart(width=9.0, height=3.6)
    x = frame_times(timestamps, frames)
    columns = drawn_frames(frames)
    labels, coords = partition.labels.cpu().numpy(), graph.coords.cpu().numpy()
    sizes = partition.sizes.cpu().numpy()
    largest = np.argsort(-sizes, kind="stable")[:communities]
    largest = np.sort(largest[sizes[largest] > 1])  # numbered by their first vertex: the order of time
    band_of = np.full(len(sizes), len(largest))
    band_of[largest] = np.arange(len(largest))
    bands = len(largest) + 1
    height, width = (int(coords[:, axis].max()) + 1 if len(coords) else 1 for axis in (1, 2))
    cell = np.full((frames, height * width), -1)
    cell[coords[:, 0], coords[:, 1].clip(0) * width + coords[:, 2]] = band_of[labels]
    counts = np.stack([np.bincount(row[row >= 0], minlength=bands) for row in cell[columns]])
    colours = np.array(
        [*(community_colours(largest, np.zeros(len(largest), bool)) / 255), np.array(rgb(_REST_COLOUR)) / 255]
    )
    # Every column is a stack of bands; between two columns every flow takes the next part of either stack.
    top = np.concatenate([np.zeros((len(columns), 1)), counts.cumsum(1)], 1) - counts.sum(1, keepdims=True) / 2
    half = 0.06 * slot_width(x[columns])
    shapes, faces = [], []
    bend = np.linspace(0, 1, 9)
    curve = bend * bend * (3 - 2 * bend)
    for place, (one, two) in enumerate(itertools.pairwise(columns)):
        both = (cell[one] >= 0) & (cell[two] >= 0)
        flows = np.bincount(cell[one, both] * bands + cell[two, both], minlength=bands * bands).reshape(bands, bands)
        left, right = top[place].copy(), top[place + 1].copy()
        across = x[one] + half + bend * (x[two] - x[one] - 2 * half)
        for a, b in np.argwhere(flows):
            many = flows[a, b]
            low = left[a] + curve * (right[b] - left[a])
            shapes.append(np.concatenate([np.stack([across, low], 1), np.stack([across, low + many], 1)[::-1]]))
            faces.append((*(colours[a] if a == b or b < bands - 1 else colours[b]), 0.92 if a == b else 0.5))
            left[a] += many
            right[b] += many
    for place, t in enumerate(columns):
        for band in np.flatnonzero(counts[place]):
            low, high = top[place, band], top[place, band + 1]
            shapes.append(np.array([[x[t] - half, low], [x[t] + half, low], [x[t] + half, high], [x[t] - half, high]]))
            faces.append((*colours[band], 1.0))
    axes.add_collection(PolyCollection(shapes, facecolors=faces, linewidths=0))
    most = float(counts.sum(1).max(initial=1)) / 2
    for event in events:
        if event.size > 1:
            axes.plot(
                [x[event.peak_frame]] * 2,
                [most * 1.04, most * 1.13],
                color=EVENT_COLOUR,
                linewidth=2.2,
                solid_capstyle="butt",
            )
    axes.set_ylim(most * 1.16, -most * 1.05)
    axes.set_xlim(x[0] - 2 * half, x[-1] + 2 * half)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("frame" if timestamps is None else "seconds")
    entries = [
        (hexadecimal(community_palette()[c % len(community_palette())]), f"{c} ({sizes[c]:,})")
        for c in _biggest(largest, sizes, 6)
    ]
    rest = len(sizes) - len(largest)
    if rest:
        entries.append((_REST_COLOUR, f"{rest:,} others"))
    if any(event.size > 1 for event in events):
        entries.append((EVENT_COLOUR, "event"))
    colour_legend(axes, entries)
    say_thinned(axes, len(columns), frames)
    return figure


def community_graph(
    graph: SpatioTemporalGraph,
    partition: Partition,
    *,
    timestamps: Sequence[float] | None = None,
    communities: int = 60,
) -> Figure:
    """One node per community: its place in time and height, its size, and how strongly it is joined to others.

    A node's place is the mean frame and row of its tokens, its area their number. The line between two nodes is as
    thick as the sum of the weights of the edges between them.

    Args:
        graph: of one video, with all its edges.
        partition: of its vertices.
        timestamps: (T,) seconds; frame numbers are shown when not given.
        communities: how many nodes at most, the largest communities.
    """
    from matplotlib.collections import LineCollection

    check_one_video(graph)
    check_partition(partition, graph)
    check_number("communities", communities, at_least=1, integer=True)
    figure, axes = new_chart(width=9.0, height=4.4)
    sizes = partition.sizes.cpu().numpy()
    labels, coords = partition.labels.cpu().numpy(), graph.coords.cpu().numpy().astype(np.float64)
    chosen = np.sort(np.argsort(-sizes, kind="stable")[:communities])
    node = np.full(len(sizes), -1)
    node[chosen] = np.arange(len(chosen))
    when = coords[:, 0] if timestamps is None else np.array([float(s) for s in timestamps])[coords[:, 0].astype(int)]
    total = np.maximum(1, sizes)
    places = np.stack(
        [np.bincount(labels, when, len(sizes)) / total, np.bincount(labels, coords[:, 1], len(sizes)) / total], 1
    )[chosen]
    ends = node[labels[graph.edge_index.cpu().numpy()]] if graph.num_edges else np.zeros((2, 0), dtype=int)
    between = (ends[0] != ends[1]) & (ends >= 0).all(0)
    pairs = np.sort(ends[:, between], 0)
    weight = graph.edge_weight.cpu().numpy()[between].clip(0)
    links, of = np.unique(pairs, axis=1, return_inverse=True)
    strength = np.bincount(of.reshape(-1), weight, links.shape[1])
    if links.shape[1]:
        widths = 0.4 + 5 * np.sqrt(strength / max(strength.max(), 1e-9))
        axes.add_collection(LineCollection(places[links.T], linewidths=widths, colors=FAINT, alpha=0.35, zorder=1))
    if len(chosen):
        area = 30 + 1500 * sizes[chosen] / sizes.max()
        colours = community_colours(chosen, sizes[chosen] == 1) / 255
        axes.scatter(places[:, 0], places[:, 1], s=area, c=colours, edgecolors=INK, linewidths=0.5, zorder=2)
        for place in np.argsort(-sizes[chosen], kind="stable")[:12]:
            inside = area[place] > 600
            add_note(axes, f"{sizes[chosen[place]]:,}", places[place], (0 if inside else 7 + area[place] ** 0.5 / 3, 0),
                  ha="center" if inside else "left", va="center", fontsize=7.5, color=INK, zorder=3)  # fmt: skip
    axes.margins(0.08)
    axes.invert_yaxis()
    axes.set_ylabel("row (mean)")
    axes.set_xlabel(("frame" if timestamps is None else "seconds") + " (mean)")
    shown = (
        f"the {len(chosen)} largest of {len(sizes):,} communities"
        if len(chosen) < len(sizes)
        else f"{len(sizes):,} communities"
    )
    axes.set_title(
        f"{shown}; area and number: tokens, line: weight of the edges between", loc="left", fontsize=9.5, color=INK
    )
    return figure


def _biggest(chosen: np.ndarray, sizes: np.ndarray, count: int) -> list[int]:
    return [int(c) for c in chosen[np.argsort(-sizes[chosen], kind="stable")][:count]]
