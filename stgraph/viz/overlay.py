"""Pictures of a selection on its frames: overlays, a contact sheet and a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError, check_choice, check_number
from ..selectors.selection import KEPT, Selection, Verdict
from ..tokens import Grid
from ..video import Video, write_video
from .colours import (
    ALONE_COLOUR,
    VERDICT_COLOURS,
    community_colours,
    community_palette,
    heat_colours,
    hexadecimal,
    rgb,
)
from .images import scaled
from .summary import one_video, telling_frames, token_grid, verdicts_per_frame

if TYPE_CHECKING:
    from PIL.Image import Image

OverlayKind = Literal["kept", "communities", "difference"]

OVERLAY_KINDS: tuple[OverlayKind, ...] = ("kept", "communities", "difference")

NO_TOKEN = 255
"""Verdict of grid positions that hold no token."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# -- one frame --------------------------------------------------------------------------------------------------------


def frame_overlay(frame: Tensor, verdict: np.ndarray, *, dim: float = 0.3, outline: int | None = None) -> Tensor:
    """Kept tokens as they are, dropped ones grey and dark; a line in the verdict's colour around groups of kept tokens.

    Args:
        frame: (3, H, W) uint8.
        verdict: (h, w) :class:`~stgraph.selectors.selection.Verdict` codes of the frame's tokens, 255 where none is.
        dim: brightness that is left to dropped tokens, 0 to 1.
        outline: width of the lines in pixels; about 1/300 of the frame's shorter side when not given, 0 for none.

    Returns:
        (3, H, W) uint8, a new tensor.
    """
    check_number("dim", dim, at_least=0, at_most=1)
    pixels = _pixels(frame)
    codes = _per_pixel(verdict, pixels)
    kept = _per_pixel(np.isin(verdict, KEPT), pixels)
    grey = (_grey(frame) * dim).round().astype(np.uint8)
    out = np.where(kept, frame.cpu().numpy(), grey).transpose(1, 2, 0)  # one channel after the other
    palette = np.zeros((256, 3), dtype=np.uint8)
    for name, colour in VERDICT_COLOURS.items():
        palette[name] = rgb(colour)
    line = kept & _border(codes, _line_width(pixels, outline))
    out[line] = palette[codes[line]]
    return _frame(out)


def community_overlay(frame: Tensor, community: np.ndarray, alone: np.ndarray, *, opacity: float = 0.55) -> Tensor:
    """Communities as colours over the frame, a dark line between them; communities of one token are grey.

    Args:
        frame: (3, H, W) uint8.
        community: (h, w) int, −1 where there is none.
        alone: (h, w) bool, True where the community has one token only.
        opacity: of the colours, 0 to 1.

    Returns:
        (3, H, W) uint8, a new tensor.
    """
    check_number("opacity", opacity, at_least=0, at_most=1)
    pixels = _pixels(frame)
    labels = _per_pixel(community, pixels)
    colours = _per_pixel(community_colours(community.clip(0), alone), pixels)
    share = np.where(labels >= 0, opacity, 0.0)[..., None]
    out = pixels * (1 - share) + colours * share
    out[_border(labels, 1) & (labels >= 0)] *= 0.45
    return _frame(out.round().astype(np.uint8))


def difference_overlay(
    frame: Tensor, difference: np.ndarray, *, maximum: float = 1.0, marked: np.ndarray | None = None
) -> Tensor:
    """Difference from the past as heat over the grey frame, a line around the marked tokens.

    Args:
        frame: (3, H, W) uint8.
        difference: (h, w) float scores, ≥ 0.
        maximum: score of the brightest colour, > 0.
        marked: (h, w) bool, the event tokens, or None.

    Returns:
        (3, H, W) uint8, a new tensor.
    """
    check_number("maximum", maximum, above=0)
    pixels = _pixels(frame)
    level = (difference / maximum).clip(0, 1)
    grey = (_grey(frame) * 0.6)[..., None]
    share = _per_pixel(0.9 * level**0.5, pixels)[..., None]
    out = (grey * (1 - share) + _per_pixel(heat_colours(level), pixels) * share).round().astype(np.uint8)
    if marked is not None:
        inside = _per_pixel(marked, pixels)
        out[inside & _border(inside, _line_width(pixels, None))] = rgb(VERDICT_COLOURS[Verdict.EVENT])
    return _frame(out)


def _pixels(frame: Tensor) -> np.ndarray:
    if frame.ndim != 3 or frame.shape[0] != 3 or frame.dtype != torch.uint8:
        raise StgraphError(f"a frame must be (3, H, W) uint8, got {tuple(frame.shape)} {frame.dtype}")
    pixels: np.ndarray = frame.permute(1, 2, 0).cpu().numpy()
    return pixels


def _grey(frame: Tensor) -> np.ndarray:
    """(H, W) float32 luminance. One channel at a time: products of rows of three are several times slower."""
    red, green, blue = (weight * plane for weight, plane in zip(_LUMINANCE, frame.cpu().numpy(), strict=True))
    total: np.ndarray = red + green + blue
    return total


def _frame(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def _per_pixel(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(H, W, ...) of (h, w, ...): every pixel gets the value of the token that it lies in."""
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(pixels.shape, values.shape[:2], strict=False))
    spread: np.ndarray = values[rows[:, None], columns]
    return spread


def _border(values: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool: within ``width`` pixels of a different value above, below, left or right, or of the frame's edge."""
    border = np.zeros(values.shape, dtype=bool)
    for lines, out in ((values, border), (values.T, border.T)):
        step = min(width, len(lines))
        if step:
            differs = lines[step:] != lines[:-step]
            out[step:] |= differs
            out[:-step] |= differs
            out[:step] = out[-step:] = True
    return border


def _line_width(pixels: np.ndarray, outline: int | None) -> int:
    return max(1, round(min(pixels.shape[:2]) / 300)) if outline is None else outline


# -- many frames ------------------------------------------------------------------------------------------------------


def overlay_frames(
    video: Video,
    selection: Selection,
    grid: Grid,
    kind: OverlayKind = "kept",
    *,
    frames: Sequence[int] | None = None,
    width: int | None = None,
) -> Iterator[Tensor]:
    """Frames of one video with an overlay, one at a time.

    Args:
        video: T frames.
        selection: of this video.
        grid: (T, h, w) of its tokens.
        kind: ``"kept"``, ``"communities"`` or ``"difference"``.
        frames: which frames, all when not given.
        width: scale frames to this many pixels before drawing; as they are when not given.

    Yields:
        (3, H, W) uint8.

    Raises:
        StgraphError: video, selection and grid do not fit together, or there is no such frame.
    """
    check_choice("overlay kind", kind, OVERLAY_KINDS)
    one_video(selection, grid)
    if grid.frames != len(video):
        raise StgraphError(f"the grid has {grid.frames} frames, the video {len(video)}; give the grid of its tokens")
    chosen = range(len(video)) if frames is None else frames
    for t in chosen:
        check_number("frame", t, at_least=0, below=len(video), integer=True)
    return _overlays(video, selection, grid, kind, chosen, width)


def _overlays(
    video: Video, selection: Selection, grid: Grid, kind: OverlayKind, frames: Sequence[int], width: int | None
) -> Iterator[Tensor]:
    def laid_out(values: Tensor, fill: float) -> np.ndarray:
        return token_grid(values, selection.coords, grid, fill)

    verdict = laid_out(selection.verdict, NO_TOKEN)
    if kind == "communities":
        community = laid_out(selection.community, -1)
        alone = np.bincount(community[community >= 0], minlength=1)[community.clip(0)] == 1
    elif kind == "difference":
        difference = laid_out(selection.difference, 0)
        maximum = max(1.0, float(difference.max()))
        marked = np.isin(verdict, (Verdict.EVENT, Verdict.BOTH))
    for t in frames:
        frame = video.frames[t]
        if width is not None:
            frame = scaled(frame, width)
        if kind == "kept":
            yield frame_overlay(frame, verdict[t])
        elif kind == "communities":
            yield community_overlay(frame, community[t], alone[t])
        else:
            yield difference_overlay(frame, difference[t], maximum=maximum, marked=marked[t])


def overlay_video(
    path: str | Path,
    video: Video,
    selection: Selection,
    grid: Grid,
    kind: OverlayKind = "kept",
    *,
    fps: float | None = None,
    width: int | None = None,
    preset: str = "medium",
) -> None:
    """Write the overlay as an MP4 that plays at the speed of the video.

    Args:
        path: ends in ``.mp4``.
        video: T frames.
        selection: of this video.
        grid: (T, h, w) of its tokens.
        kind: as for :func:`overlay_frames`.
        fps: frames per second; when not given, that of the sampled timestamps (1 for a single frame).
        width: scale frames to this many pixels; as they are when not given.
        preset: as for :func:`~stgraph.video.write_video`.

    Raises:
        StgraphError: as :func:`overlay_frames` and :func:`~stgraph.video.write_video`.
    """
    if fps is None:
        span = float(video.timestamps[-1] - video.timestamps[0])
        fps = (len(video) - 1) / span if span else 1.0
    write_video(path, overlay_frames(video, selection, grid, kind, width=width), fps, preset=preset)


# -- contact sheet ----------------------------------------------------------------------------------------------------

_INK, _FAINT, _PAPER = "#1A1D21", "#5B626B", "#FFFFFF"


def frame_sheet(
    video: Video,
    selection: Selection,
    grid: Grid,
    kind: OverlayKind = "kept",
    *,
    frames: int | Sequence[int] = 12,
    columns: int = 4,
    width: int = 320,
) -> Image:
    """Contact sheet: the most telling frames with their overlay, each with its time and kept count, a legend below.

    Args:
        video: T frames.
        selection: of this video.
        grid: (T, h, w) of its tokens.
        kind: as for :func:`overlay_frames`.
        frames: which frames, or how many: then half are evenly spread and half those with the most event tokens.
        columns: frames in a row.
        width: of a frame in pixels.

    Returns:
        RGB image of ``columns * (width + 12) + 12`` pixels width (fewer columns when there are fewer frames).

    Raises:
        StgraphError: as :func:`overlay_frames`.
    """
    from PIL import Image, ImageDraw, ImageFont

    for name, value in (("columns", columns), ("width", width)):
        check_number(name, value, at_least=1, integer=True)
    one_video(selection, grid)
    counts = verdicts_per_frame(selection, grid.frames)
    if isinstance(frames, int):
        check_number("frames", frames, at_least=1, integer=True)
        frames = telling_frames(counts[:, Verdict.EVENT] + counts[:, Verdict.BOTH], frames)
    pictures = [_pixels(frame) for frame in overlay_frames(video, selection, grid, kind, frames=frames, width=width)]
    if not pictures:
        raise StgraphError("a frame sheet needs at least one frame")

    columns = min(columns, len(pictures))
    gap, size = 12, max(10, round(width / 23))
    font = ImageFont.load_default(size)
    height, caption = pictures[0].shape[0], size + gap
    rows = -(-len(pictures) // columns)
    total = columns * (width + gap) + gap
    legend = _legend(counts.sum(0), kind, font, total - 2 * gap)
    bottom = gap + rows * (height + caption + gap // 2)
    sheet = Image.new("RGB", (total, bottom + len(legend) * (size + gap) + gap // 2), _PAPER)
    draw = ImageDraw.Draw(sheet)
    kept = counts[:, list(KEPT)].sum(1)
    for place, (t, picture) in enumerate(zip(frames, pictures, strict=True)):
        x, y = gap + place % columns * (width + gap), gap + place // columns * (height + caption + gap // 2)
        sheet.paste(Image.fromarray(picture), (x, y))
        seconds, share = float(video.timestamps[t]), f"{kept[t]} of {counts[t].sum()}"
        draw.text((x, y + height + gap // 4), f"{seconds:.2f} s", fill=_INK, font=font)
        draw.text((x + width, y + height + gap // 4), share, fill=_FAINT, font=font, anchor="ra")
    for line, entries in enumerate(legend):
        y = bottom + line * (size + gap)
        for x, colour, text in entries:
            draw.rectangle((x + gap, y, x + gap + size - 1, y + size - 1), fill=colour)
            draw.text((x + gap + size + size // 2, y + size // 2), text, fill=_INK, font=font, anchor="lm")
    return sheet


def _legend(totals: np.ndarray, kind: OverlayKind, font: Any, room: int) -> list[list[tuple[int, str, str]]]:
    """Lines of (x, colour, text) that fit into ``room`` pixels; only what the picture shows."""
    if kind == "kept":
        kept = [verdict for verdict in VERDICT_COLOURS if verdict in KEPT and totals[verdict]]
        entries = [(VERDICT_COLOURS[verdict], f"{verdict.name.lower()} {totals[verdict]}") for verdict in kept]
        gone = totals[Verdict.DROPPED] + totals[Verdict.TRIMMED]
        if gone:
            entries.append(("#3A3E44", f"dropped {gone}"))
    elif kind == "difference":
        names = ((0.0, "as before"), (0.5, "changed"), (1.0, "all new"))
        entries = [(hexadecimal(heat_colours(np.array(level))), name) for level, name in names]
        entries.append((VERDICT_COLOURS[Verdict.EVENT], "event tokens"))
    else:
        first = hexadecimal(community_palette()[0])
        entries = [(first, "a community, in the same colour in all frames"), (ALONE_COLOUR, "a community of one token")]
    lines: list[list[tuple[int, str, str]]] = [[]]
    x = 0
    for colour, text in entries:
        needed = round(font.getlength(text)) + 4 * round(font.size)
        if x and x + needed > room:
            lines.append([])
            x = 0
        lines[-1].append((x, colour, text))
        x += needed
    return lines
