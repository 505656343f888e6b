"""Pictures of communities, events and comparisons for papers and notebooks. Each returns a matplotlib figure.

Event orange (:data:`~stgraph.viz.colours.EVENT_COLOUR`) is only events. What is thinned to be drawn is said so in the
picture. Every function accepts empty selections, one frame, one token, and, where a frame is shown, no video.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..community.partition import Partition
from ..difference.events import Event
from ..errors import StgraphError, check_choice, check_number
from ..graph import SpatioTemporalGraph
from ..graph.merge_tree import MergeTree
from ..selectors.selection import KEPT, Selection, Verdict
from ..tokens import Grid
from ..video import Video
from .charts import _FAINT, _INK, _LINE, _chart, _figure, _one, _slot, _times
from .colours import (
    ALONE_COLOUR,
    COMPARISON_COLOURS,
    EVENT_COLOUR,
    SPATIAL_COLOUR,
    VERDICT_COLOURS,
    community_colours,
    community_palette,
    heat_colours,
    hexadecimal,
    rgb,
)
from .overlay import overlay_frames, scaled
from .summary import one_video, telling_frames, token_grid, verdicts_per_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COLUMNS = 160
"""Frames that a river or a map draws at most. Of more, this many are drawn, evenly chosen."""

_REST_COLOUR = "#C9CED6"

# -- communities over time --------------------------------------------------------------------------------------------


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

    _one(graph)
    _same(partition, graph)
    check_number("communities", communities, at_least=1, integer=True)
    figure, axes = _chart(width=9.0, height=3.6)
    x = _times(timestamps, frames)
    columns = _columns(frames)
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
    half = 0.06 * _slot(x[columns])
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
    _patches(axes, entries)
    _thinned(axes, len(columns), frames)
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

    _one(graph)
    _same(partition, graph)
    check_number("communities", communities, at_least=1, integer=True)
    figure, axes = _chart(width=9.0, height=4.4)
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
        axes.add_collection(LineCollection(places[links.T], linewidths=widths, colors=_FAINT, alpha=0.35, zorder=1))
    if len(chosen):
        area = 30 + 1500 * sizes[chosen] / sizes.max()
        colours = community_colours(chosen, sizes[chosen] == 1) / 255
        axes.scatter(places[:, 0], places[:, 1], s=area, c=colours, edgecolors=_INK, linewidths=0.5, zorder=2)
        for place in np.argsort(-sizes[chosen], kind="stable")[:12]:
            inside = area[place] > 600
            _note(axes, f"{sizes[chosen[place]]:,}", places[place], (0 if inside else 7 + area[place] ** 0.5 / 3, 0),
                  ha="center" if inside else "left", va="center", fontsize=7.5, color=_INK, zorder=3)  # fmt: skip
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
        f"{shown}; area and number: tokens, line: weight of the edges between", loc="left", fontsize=9.5, color=_INK
    )
    return figure


# -- the merge tree ---------------------------------------------------------------------------------------------------


def merge_dendrogram(tree: MergeTree, *, threshold: float | None = None, leaves: int = 40) -> Figure:
    """How communities merge as τ_sim falls: the last merges as a tree, with the number of tokens below each leaf.

    Args:
        tree: the merge tree of one graph.
        threshold: a τ_sim to be marked.
        leaves: how many branches are drawn, ≥ 2; what is below is folded into them.
    """
    check_number("leaves", leaves, at_least=2, integer=True)
    figure, axes = _chart(width=9.0, height=3.6)
    nodes, merges = tree.num_nodes, tree.num_merges
    first = max(0, merges - leaves + 1)
    # Before the drawn merges: each community is one leaf, in the order in which none of their stretches cross.
    order = tree.leaves.numpy()
    starts = np.flatnonzero(tree.joined.numpy() >= first)
    size = {int(order[a]): int(b - a) for a, b in zip(starts, np.append(starts[1:], nodes), strict=True)}
    if len(size) > 2 * leaves:  # parts that never merge: only those of the drawn merges
        touched = set(tree.first[:, first:].flatten().tolist())
        kept = [head for head in size if head in touched]
    else:
        kept = list(size)
    spot = {head: (float(place), 1.0) for place, head in enumerate(kept)}
    for merge in range(first, merges):
        one, two = (int(v) for v in tree.first[:, merge])
        weight = float(tree.weight[merge])
        (xa, ya), (xb, yb) = spot[one], spot[two]
        axes.plot(
            [xa, xa, xb, xb], [ya, weight, weight, yb], color=SPATIAL_COLOUR, linewidth=1.2, solid_joinstyle="round"
        )
        spot[one] = ((xa + xb) / 2, weight)
    low = float(tree.weight[-1]) if merges else 0.0
    for place, head in enumerate(kept):
        axes.annotate(
            f"{size[head]:,}",
            (place, 1.0),
            (0, 3),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=_FAINT,
        )
    if threshold is not None:
        axes.axhline(threshold, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        told = f"τ_sim {threshold:g}: {int(tree.num_communities(threshold)):,} communities"
        _note(axes, told, (1, threshold), (-2, 3),
              xycoords=("axes fraction", "data"), ha="right", fontsize=8.5, color=_INK,
              bbox={"facecolor": "white", "linewidth": 0, "pad": 1})  # fmt: skip
    axes.set_xlim(-1, max(1, len(kept)))
    axes.set_ylim(min(low, threshold or 1.0) - 0.03, 1.0 + 0.16 * max(0.05, 1.0 - low))
    axes.set_xticks([])
    axes.set_ylabel("τ_sim at which they merge")
    folded = f"the last {merges - first:,} of {merges:,} merges" if first else f"{merges:,} merges"
    axes.set_title(f"{folded} of {nodes:,} tokens; above each branch its tokens", loc="left", fontsize=9.5, color=_INK)
    return figure


def persistence_barcode(
    tree: MergeTree, *, threshold: float | None = None, bars: int = 40, smallest: int = 2
) -> Figure:
    """How long communities live as τ_sim falls: one bar from birth to death each, the longest-lived on top.

    Args:
        tree: the merge tree of one graph.
        threshold: a τ_sim to be marked.
        bars: how many are drawn at most.
        smallest: communities of fewer tokens are left out, ≥ 1.
    """
    check_number("bars", bars, at_least=1, integer=True)
    lives = tree.persistence(smallest)
    floor = float(tree.weight[-1]) - 0.02 if tree.num_merges else 0.0
    birth = lives.birth.numpy()[:bars]
    death = np.maximum(lives.death.numpy()[:bars], floor)
    size = lives.size.numpy()[:bars]
    figure, axes = _chart(width=9.0, height=max(1.8, 1.0 + 0.11 * len(birth)))
    place = np.arange(len(birth))
    if len(birth):
        level = np.log(size) / max(1e-9, math.log(max(2, int(size.max()))))
        axes.barh(place, birth - death, 0.72, left=death, color=heat_colours(0.9 - 0.75 * level) / 255, linewidth=0)
        for y in place:
            end = "" if np.isfinite(lives.death.numpy()[y]) else "never merges, "
            axes.annotate(
                f"{end}{size[y]:,}",
                (birth[y], y),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color=_FAINT,
            )
    if threshold is not None:
        axes.axvline(threshold, color=_INK, linewidth=1, linestyle=(0, (4, 3)), label=f"τ_sim {threshold:g}")
    axes.set_ylim(len(birth) - 0.4, -0.6)
    axes.set_yticks([])
    axes.grid(axis="x", color=_LINE, linewidth=0.5)
    axes.set_xlabel("τ_sim")
    many = len(lives.birth)
    shown = f"the {len(birth)} longest-lived of {many:,} communities" if many > len(birth) else f"{many:,} communities"
    axes.set_title(
        f"{shown} of at least {smallest} tokens; beside each bar its tokens, darker bars have more",
        loc="left",
        fontsize=9.5,
        color=_INK,
    )
    if threshold is not None:
        axes.legend(loc="lower left", frameon=False, fontsize=8.5, labelcolor=_INK)
    return figure


# -- events -----------------------------------------------------------------------------------------------------------


def event_strip(
    events: Sequence[Event],
    grid: Grid,
    *,
    video: Video | None = None,
    rows: int = 8,
    timestamps: Sequence[float] | None = None,
) -> Figure:
    """The largest events one below the other: the frame at the peak with its box, and a bar over its time.

    Args:
        events: of one video.
        grid: (T, h, w) of the tokens.
        video: gives the pictures and the times.
        rows: how many events are drawn, those with the largest mass, in order of time.
        timestamps: (T,) seconds where there is no video.
    """
    from matplotlib.patches import Rectangle

    check_number("rows", rows, at_least=1, integer=True)
    times = video.timestamps.tolist() if video is not None else timestamps
    x = _times(times, grid.frames)
    largest = sorted(sorted(events, key=lambda e: -e.mass)[:rows], key=lambda e: (e.first_frame, e.box))
    aspect = video.width / video.height if video is not None else grid.width / grid.height
    figure = _figure(9.0, max(1.2, 0.45 + 1.0 * len(largest)))
    top, each = 0.3 / figure.get_figheight(), 1.0 / figure.get_figheight()
    wide = 0.86 * aspect / figure.get_figwidth()
    left = wide + 0.03
    for number, event in enumerate(largest):
        y = 1 - top - (number + 1) * each
        picture = figure.add_axes((0.01, y + 0.07 * each, wide, 0.86 * each))
        picture.set_axis_off()
        if video is not None:
            frame = scaled(video.frames[event.peak_frame], min(240, video.width))
            picture.imshow(frame.permute(1, 2, 0).cpu().numpy(), extent=(0, grid.width, grid.height, 0), aspect="auto")
        else:
            picture.add_patch(Rectangle((0, 0), grid.width, grid.height, facecolor="#EEF1F4", linewidth=0))
        r, c, bottom, right = event.box
        picture.add_patch(Rectangle((c, r), right - c, bottom - r, fill=False, edgecolor="white", linewidth=3.4))
        picture.add_patch(Rectangle((c, r), right - c, bottom - r, fill=False, edgecolor=EVENT_COLOUR, linewidth=1.8))
        picture.set_xlim(0, grid.width)
        picture.set_ylim(grid.height, 0)
        bar = figure.add_axes((left, y + 0.12 * each, 0.98 - left, 0.5 * each))
        half = _slot(x) / 2
        bar.axvspan(x[0] - half, x[-1] + half, 0.42, 0.58, color="#E4E8EC", linewidth=0)
        bar.axvspan(
            x[event.first_frame] - half, x[event.last_frame] + half, 0.15, 0.85, color=EVENT_COLOUR, linewidth=0
        )
        bar.set_xlim(x[0] - half, x[-1] + half)
        bar.set_ylim(0, 1)
        bar.set_axis_off()
        unit = " s" if times is not None else ""
        first, last = (f"{x[t]:.2f}" if unit else f"frame {t}" for t in (event.first_frame, event.last_frame))
        when = f"{first}{unit}" if first == last else f"{first} to {last}{unit}"
        where = f"rows {r} to {bottom - 1}, columns {c} to {right - 1}"
        figure.text(
            left,
            y + 0.66 * each,
            f"{when}   {event.size:,} token{'s' if event.size != 1 else ''}   mass {event.mass:.1f}   {where}",
            fontsize=8.5,
            color=_INK,
        )
    shown = (
        f"the {len(largest)} largest of {len(events):,} events"
        if len(events) > len(largest)
        else f"{len(events):,} event{'s' if len(events) != 1 else ''}"
    )
    figure.text(0.01, 1 - 0.75 * top, shown, fontsize=9.5, color=_INK)
    return figure


# -- frames -----------------------------------------------------------------------------------------------------------


def filmstrip(
    video: Video,
    selection: Selection,
    grid: Grid,
    by: Literal["verdict", "community", "difference"] = "verdict",
    *,
    frames: int | Sequence[int] = 6,
) -> Figure:
    """Frames in a row with their tokens: by verdict, by community or by difference.

    Args:
        video: T frames.
        selection: of this video.
        grid: (T, h, w) of its tokens.
        by: what the colours say.
        frames: which frames, or how many: half evenly spread, half those with the most event tokens.
    """
    check_choice("by", by, ("verdict", "community", "difference"))
    one_video(selection, grid)
    counts = verdicts_per_frame(selection, grid.frames)
    if isinstance(frames, int):
        check_number("frames", frames, at_least=1, integer=True)
        frames = telling_frames(counts[:, Verdict.EVENT] + counts[:, Verdict.BOTH], frames)
    kinds = {"verdict": "kept", "community": "communities", "difference": "difference"}
    pictures = list(overlay_frames(video, selection, grid, kinds[by], frames=frames, width=240))  # type: ignore[arg-type]
    if not pictures:
        raise StgraphError("a film strip needs at least one frame")
    figure = _figure(9.0, 9.0 / len(pictures) * video.height / video.width + 0.62)
    tall = 1 - 0.62 / figure.get_figheight()
    for place, (t, picture) in enumerate(zip(frames, pictures, strict=True)):
        axes = figure.add_axes(
            (place / len(pictures) + 0.002, 0.24 / figure.get_figheight(), 1 / len(pictures) - 0.004, tall)
        )
        axes.imshow(picture.permute(1, 2, 0).cpu().numpy(), aspect="auto")
        axes.set_axis_off()
        axes.text(
            0,
            -0.03,
            f"{float(video.timestamps[t]):.2f} s",
            transform=axes.transAxes,
            va="top",
            fontsize=8,
            color=_FAINT,
        )
    if by == "verdict":
        entries = [
            (c, f"{v.name.lower()} {counts[:, v].sum():,}")
            for v, c in VERDICT_COLOURS.items()
            if v in KEPT and counts[:, v].any()
        ]
        entries.append(("#3A3E44", f"dropped {counts[:, [Verdict.DROPPED, Verdict.TRIMMED]].sum():,}"))
    elif by == "community":
        entries = [
            (hexadecimal(community_palette()[0]), "a community, in one colour in all frames"),
            (ALONE_COLOUR, "a community of one token"),
        ]
    else:
        entries = [
            (hexadecimal(heat_colours(np.array(v))), word)
            for v, word in ((0.0, "as before"), (0.5, "changed"), (1.0, "all new"))
        ]
        entries.append((EVENT_COLOUR, "event tokens"))
    _patches(figure, entries)
    return figure


def compare_selections(
    selections: Mapping[str, Selection],
    grid: Grid,
    *,
    video: Video | None = None,
    frames: int | Sequence[int] = 6,
) -> Figure:
    """Two selections of the same tokens: kept by both, only by the first, only by the second, in frames and over time.

    Args:
        selections: two, by name, of the same video.
        grid: (T, h, w) of its tokens.
        video: the frames that the tokens are drawn on; grey where there is none.
        frames: which frames, or how many: those in which the selections differ most, and evenly spread ones.

    Raises:
        StgraphError: not two, or of different tokens.
    """
    if len(selections) != 2:
        raise StgraphError(f"compare_selections needs two selections by name, got {len(selections)}")
    (name_a, one), (name_b, two) = selections.items()
    for selection in (one, two):
        one_video(selection, grid)
    if not torch.equal(one.coords, two.coords):
        raise StgraphError(f"{name_a} and {name_b} are selections of different tokens; compare selections of one video")
    codes = one.mask.long() + 2 * two.mask.long()
    laid = token_grid(codes.to(torch.int16), one.coords, grid, -1)
    keys = ("neither", "first", "second", "both")
    per_frame = torch.bincount(one.coords[:, 0] * 4 + codes, minlength=grid.frames * 4).view(grid.frames, 4).numpy()
    if isinstance(frames, int):
        check_number("frames", frames, at_least=1, integer=True)
        frames = telling_frames(per_frame[:, 1] + per_frame[:, 2], frames)
    times = video.timestamps.tolist() if video is not None else None
    x = _times(times, grid.frames)
    ratio = video.height / video.width if video is not None else grid.height / grid.width
    strip = 9.0 / len(frames) * ratio
    figure = _figure(9.0, strip + 2.35)
    palette = np.array([rgb(COMPARISON_COLOURS[key]) for key in keys], dtype=np.float64)
    for place, t in enumerate(frames):
        axes = figure.add_axes(
            (
                place / len(frames) + 0.003,
                1 - (strip + 0.34) / figure.get_figheight(),
                1 / len(frames) - 0.006,
                strip / figure.get_figheight(),
            )
        )
        if video is not None:
            pixels = scaled(video.frames[t], min(300, video.width)).permute(1, 2, 0).cpu().numpy().astype(np.float64)
            rows, cols = (np.arange(n) * cells // n for n, cells in zip(pixels.shape, laid[t].shape, strict=False))
            code = laid[t][rows[:, None], cols]
            grey = pixels @ np.array([0.299, 0.587, 0.114])
            shade = np.where(
                (code > 0)[..., None], 0.42 * pixels + 0.58 * palette[code.clip(0)], (0.3 * grey)[..., None]
            )
            axes.imshow(shade.round().astype(np.uint8), aspect="auto")
        else:
            axes.imshow(palette[laid[t].clip(0)].astype(np.uint8), aspect="auto")
        axes.set_axis_off()
        label = f"{x[t]:.2f} s" if times is not None else f"frame {t}"
        axes.text(0, -0.03, label, transform=axes.transAxes, va="top", fontsize=8, color=_FAINT)
    chart = figure.add_axes((0.065, 0.42 / figure.get_figheight(), 0.925, 1.25 / figure.get_figheight()))
    base = np.zeros(grid.frames)
    for code, key in ((3, "both"), (1, "first"), (2, "second")):
        chart.bar(x, per_frame[:, code], 0.9 * _slot(x), base, color=COMPARISON_COLOURS[key], linewidth=0)
        base = base + per_frame[:, code]
    chart.spines[["top", "right"]].set_visible(False)
    chart.tick_params(colors=_FAINT, labelsize=8.5, length=3)
    chart.margins(x=0.01)
    chart.set_ylabel("kept tokens", color=_FAINT, fontsize=9)
    chart.set_xlabel("seconds" if times is not None else "frame", color=_FAINT, fontsize=9)
    totals = per_frame.sum(0)
    union = int(totals[1:].sum())
    share = f", {100 * totals[3] / union:.0f} % of all that either keeps" if union else ""
    _patches(
        figure,
        [
            (COMPARISON_COLOURS["both"], f"kept by both {totals[3]:,}{share}"),
            (COMPARISON_COLOURS["first"], f"only {name_a} {totals[1]:,}"),
            (COMPARISON_COLOURS["second"], f"only {name_b} {totals[2]:,}"),
        ],
    )
    return figure


# -- maps -------------------------------------------------------------------------------------------------------------


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
    figure, axes = _chart(width=9.0, height=3.8)
    x = _times(timestamps, grid.frames)
    score = token_grid(selection.difference.float(), selection.coords, grid, 0.0).reshape(grid.frames, -1)
    event = token_grid((selection.candidate & 2) > 0, selection.coords, grid, False).reshape(grid.frames, -1)
    columns = min(grid.frames, MAX_COLUMNS)
    starts = np.arange(columns) * grid.frames // columns
    score, event = np.maximum.reduceat(score, starts), np.logical_or.reduceat(event, starts)
    high = max(1e-6, float(score.max()))
    pixels = np.where(event.T[..., None], np.array(rgb(EVENT_COLOUR)), heat_colours(score.T / high)).astype(np.uint8)
    half = _slot(x) / 2
    axes.imshow(pixels, aspect="auto", interpolation="nearest", extent=(x[0] - half, x[-1] + half, grid.height, 0))
    axes.grid(visible=False)
    axes.set_ylabel("row (in it the columns)")
    axes.set_xlabel("frame" if timestamps is None else "seconds")
    scale = figure.colorbar(
        _mappable(high, ListedColormap(heat_colours(np.linspace(0, 1, 128)) / 255)), ax=axes, pad=0.01, fraction=0.03
    )
    scale.set_label("difference", color=_FAINT, fontsize=9)
    scale.ax.tick_params(labelsize=8, colors=_FAINT)
    scale.outline.set_visible(False)
    _patches(axes, [(EVENT_COLOUR, f"event tokens ({int(((selection.candidate & 2) > 0).sum()):,})")])
    _thinned(axes, columns, grid.frames, "neighbouring frames share a column")
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
    figure, axes = _chart(width=max(4.2, 1.6 + 0.62 * len(columns)), height=max(2.6, 1.3 + 0.42 * len(rows)))
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
            color=_INK if not np.isfinite(value) or value > middle else "white",
        )
    axes.set_xticks(range(len(columns)), [f"{v:g}" for v in columns])
    axes.set_yticks(range(len(rows)), [f"{v:g}" for v in rows])
    axes.set_xlabel(column_name)
    axes.set_ylabel(row_name)
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    for name, (column, row) in (markers or {}).items():
        x, outside_x = _place(column, columns)
        y, outside_y = _place(row, rows)
        if outside_x or outside_y:
            angle = {(-1, 0): "<", (1, 0): ">", (0, -1): "v", (0, 1): "^"}.get((outside_x, outside_y), "X")
            axes.plot(
                [x], [y], marker=angle, markersize=11, color="white", markeredgecolor=_INK, clip_on=False, zorder=5
            )
            label = f"{name} at ({column:.3g}, {row:.3g}), outside"
        else:
            for colour, edge in (("white", 4.0), (_INK, 1.6)):
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
        axes.annotate(label, (x, y), (12, 13), textcoords="offset points", fontsize=8, color=_INK, zorder=7,
                      bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1.2})  # fmt: skip
    return figure


def _place(value: float, axis: Sequence[float]) -> tuple[float, int]:
    """Where a threshold lies among the cells of an axis, and −1 or 1 where it lies before or behind them."""
    if value < axis[0]:
        return -0.5, -1
    if value > axis[-1]:
        return len(axis) - 0.5, 1
    return float(np.interp(value, axis, np.arange(len(axis)))), 0


# -- what these share -------------------------------------------------------------------------------------------------


def _same(partition: Partition, graph: SpatioTemporalGraph) -> None:
    if len(partition.labels) != graph.num_nodes:
        raise StgraphError(
            f"the partition is of {len(partition.labels)} vertices, the graph of {graph.num_nodes}; give its own"
        )


def _columns(frames: int) -> np.ndarray:
    """Numbers of the frames that are drawn."""
    return np.linspace(0, frames - 1, min(frames, MAX_COLUMNS)).round().astype(int)


def _thinned(axes: Axes, drawn: int, frames: int, how: str = "the others are left out") -> None:
    if drawn < frames:
        text = f"{drawn} of {frames:,} frames: {how}"
        _note(axes, text, (1, 1), (0, 4), xycoords="axes fraction", ha="right", fontsize=8, color=_FAINT)


def _note(axes: Axes, text: str, place: Any, offset: tuple[float, float], **style: Any) -> None:
    axes.annotate(text, place, offset, textcoords="offset points", **style)


def _biggest(chosen: np.ndarray, sizes: np.ndarray, count: int) -> list[int]:
    return [int(c) for c in chosen[np.argsort(-sizes[chosen], kind="stable")][:count]]


def _patches(where: Any, entries: Sequence[tuple[str, str]]) -> None:
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
        labelcolor=_INK,
        handlelength=1.0,
        handleheight=0.9,
        columnspacing=1.4,
        borderaxespad=0.2,
        **place,
    )


def _mappable(high: float, colours: Any) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, high), colours)
