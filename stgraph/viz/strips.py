"""Pictures on frames: events, a film strip, two selections compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from ..difference.events import Event
from ..errors import StgraphError, check_choice, check_number
from ..selectors.selection import KEPT, Selection, Verdict
from ..tokens import Grid
from ..video import Video
from .colours import (
    ALONE_COLOUR,
    COMPARISON_COLOURS,
    EVENT_COLOUR,
    VERDICT_COLOURS,
    community_palette,
    heat_colours,
    hexadecimal,
    rgb,
)
from .drawing import (
    FAINT,
    INK,
    colour_legend,
    frame_times,
    new_figure,
    slot_width,
)
from .images import scaled
from .overlay import overlay_frames
from .summary import (
    one_video,
    telling_frames,
    token_grid,
    verdicts_per_frame,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    x = frame_times(times, grid.frames)
    largest = sorted(sorted(events, key=lambda e: -e.mass)[:rows], key=lambda e: (e.first_frame, e.box))
    aspect = video.width / video.height if video is not None else grid.width / grid.height
    figure = new_figure(9.0, max(1.2, 0.45 + 1.0 * len(largest)))
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
        half = slot_width(x) / 2
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
            color=INK,
        )
    shown = (
        f"the {len(largest)} largest of {len(events):,} events"
        if len(events) > len(largest)
        else f"{len(events):,} event{'s' if len(events) != 1 else ''}"
    )
    figure.text(0.01, 1 - 0.75 * top, shown, fontsize=9.5, color=INK)
    return figure


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
    figure = new_figure(9.0, 9.0 / len(pictures) * video.height / video.width + 0.62)
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
            color=FAINT,
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
    colour_legend(figure, entries)
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
        raise StgraphError(f"{name_a} and {name_b} have different tokens; compare selections of one video")
    codes = one.mask.long() + 2 * two.mask.long()
    laid = token_grid(codes.to(torch.int16), one.coords, grid, -1)
    keys = ("neither", "first", "second", "both")
    per_frame = torch.bincount(one.coords[:, 0] * 4 + codes, minlength=grid.frames * 4).view(grid.frames, 4).numpy()
    if isinstance(frames, int):
        check_number("frames", frames, at_least=1, integer=True)
        frames = telling_frames(per_frame[:, 1] + per_frame[:, 2], frames)
    times = video.timestamps.tolist() if video is not None else None
    x = frame_times(times, grid.frames)
    ratio = video.height / video.width if video is not None else grid.height / grid.width
    strip = 9.0 / len(frames) * ratio
    figure = new_figure(9.0, strip + 2.35)
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
        axes.text(0, -0.03, label, transform=axes.transAxes, va="top", fontsize=8, color=FAINT)
    chart = figure.add_axes((0.065, 0.42 / figure.get_figheight(), 0.925, 1.25 / figure.get_figheight()))
    base = np.zeros(grid.frames)
    for code, key in ((3, "both"), (1, "first"), (2, "second")):
        chart.bar(x, per_frame[:, code], 0.9 * slot_width(x), base, color=COMPARISON_COLOURS[key], linewidth=0)
        base = base + per_frame[:, code]
    chart.spines[["top", "right"]].set_visible(False)
    chart.tick_params(colors=FAINT, labelsize=8.5, length=3)
    chart.margins(x=0.01)
    chart.set_ylabel("kept tokens", color=FAINT, fontsize=9)
    chart.set_xlabel("seconds" if times is not None else "frame", color=FAINT, fontsize=9)
    totals = per_frame.sum(0)
    union = int(totals[1:].sum())
    share = f", {100 * totals[3] / union:.0f} % of all that either keeps" if union else ""
    colour_legend(
        figure,
        [
            (COMPARISON_COLOURS["both"], f"kept by both {totals[3]:,}{share}"),
            (COMPARISON_COLOURS["first"], f"only {name_a} {totals[1]:,}"),
            (COMPARISON_COLOURS["second"], f"only {name_b} {totals[2]:,}"),
        ],
    )
    return figure
