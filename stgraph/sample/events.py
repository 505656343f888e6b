"""Known events of a sample clip: their file, and the tokens at which they show."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError, check_number, readable
from ..tokens import VideoTokens
from ..video import ROUNDING

Kind = Literal["cut", "flash", "enter", "fade", "light_drift", "texture_change", "moving_object", "camera_pan", "noise"]


KINDS: tuple[Kind, ...] = get_args(Kind)


class Box(NamedTuple):
    """A rectangle of pixels, ends excluded."""

    y0: float
    x0: float
    y1: float
    x1: float


@dataclass(frozen=True)
class SampleEvent:
    """Something that is known to happen in a rendered clip.

    Attributes:
        kind: what happens.
        start_seconds: time of the first frame that shows it.
        end_seconds: time of the first frame in which it is over.
        track: (seconds, box) pairs: where it is from that time on. One pair for what stays in place. For
            ``"camera_pan"`` the box is the window that the camera sees, in pixels of the whole painted landscape.
    """

    kind: Kind
    start_seconds: float
    end_seconds: float
    track: tuple[tuple[float, Box], ...]

    def box_at(self, seconds: float) -> Box | None:
        """Where the event is at this time, None before it starts; after its end it stays where it was last."""
        known = [box for since, box in self.track if since <= seconds + ROUNDING]
        return known[-1] if known else None

    def level_at(self, seconds: float) -> float:
        """Share of the whole change that has happened by this time, 0 to 1 (for gradual events)."""
        return min(max((seconds - self.start_seconds) / (self.end_seconds - self.start_seconds), 0.0), 1.0)


def save_events(path: str | Path, events: Sequence[SampleEvent]) -> None:
    """Write events as JSON, under its name only when complete."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text(json.dumps([asdict(event) for event in events], indent=1) + "\n")
        unfinished.replace(path)
    except OSError as error:
        raise StgraphError(
            f"{readable(path)} cannot be written ({error.strerror}); check the folder and the free space"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def load_events(path: str | Path) -> tuple[SampleEvent, ...]:
    """Read events that :func:`save_events` wrote.

    Raises:
        StgraphError: no such file, or not a file of events.
    """
    try:
        entries = json.loads(Path(path).read_text())
        return tuple(
            SampleEvent(
                kind=KINDS[KINDS.index(entry["kind"])],
                start_seconds=float(entry["start_seconds"]),
                end_seconds=float(entry["end_seconds"]),
                track=tuple((float(seconds), Box(*map(float, box))) for seconds, box in entry["track"]),
            )
            for entry in entries
        )
    except OSError as error:
        raise StgraphError(
            f"{readable(path)} cannot be read ({error.strerror}); give the .events.json beside the clip"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StgraphError(
            f"{readable(path)} does not hold sample events; give the .events.json beside the clip"
        ) from None


def event_tokens(
    events: Sequence[SampleEvent],
    tokens: VideoTokens,
    frame_size: tuple[int, int],
    *,
    overlap: float = 0.25,
    level: float = 0.5,
) -> Tensor:
    """The tokens at which the known events show, given the sampled frames.

    A token is an event token when at least ``overlap`` of its patch belongs to what changed since the previous sampled
    frame. What changed depends on the kind:

    ``cut``, ``texture_change``: the event's box, in the first sampled frame at or after it.
    ``flash``: its box, in the first sampled frame that shows it and in the first after it; nothing if none shows it.
    ``enter``: what the object covers and did not cover in the previous sampled frame.
    ``moving_object``: the same, and what it uncovered.
    ``camera_pan``: the part of the picture that the camera did not see in the previous sampled frame.
    ``fade``, ``light_drift``: its box, in the frames of the change once ``level`` of the whole change has accumulated,
    up to and including the first in which it is complete.
    ``noise``: nothing.

    The first sampled frame has no past and no event tokens; neither has a separator.

    Args:
        events: of the clip.
        tokens: of one video, with timestamps.
        frame_size: (height, width) in pixels of the frames the events were painted in.
        overlap: share of a patch, above 0 and at most 1.
        level: share of a gradual change, from 0 to 1.

    Returns:
        (N,) bool.

    Raises:
        StgraphError: more than one video, or no timestamps.
    """
    check_number("overlap", overlap, above=0, at_most=1)
    check_number("level", level, at_least=0, at_most=1)
    if tokens.num_videos != 1 or tokens.timestamps is None:
        raise StgraphError(
            "event_tokens needs the tokens of one video with timestamps; use tokens.video(i), and give timestamps"
        )
    grid, times = tokens.grids[0], tokens.timestamps[0].tolist()
    cells = _Cells(grid.height, grid.width, frame_size)
    changed = np.zeros(tuple(grid), dtype=bool)
    for frame in range(1, grid.frames):
        for event in events:
            changed[frame] |= _changed(event, times[frame - 1], times[frame], cells, level) >= overlap
    t, y, x = tokens.coords.cpu().unbind(1)
    inside = ~tokens.separator.cpu()
    marked = torch.zeros(len(tokens), dtype=torch.bool)
    marked[inside] = torch.from_numpy(changed)[t[inside], y[inside], x[inside]]
    return marked.to(tokens.device)


class _Cells:
    """The patches of a token grid as rectangles of the frame."""

    def __init__(self, rows: int, columns: int, frame_size: tuple[int, int]) -> None:
        self.y = np.linspace(0, frame_size[0], rows + 1)
        self.x = np.linspace(0, frame_size[1], columns + 1)

    def covered(self, *boxes: Box) -> np.ndarray:
        """(rows, columns) share of each patch inside all the boxes."""
        y0, x0 = max(b.y0 for b in boxes), max(b.x0 for b in boxes)
        y1, x1 = min(b.y1 for b in boxes), min(b.x1 for b in boxes)
        rows = np.diff(self.y.clip(y0, max(y0, y1))) / np.diff(self.y)
        columns = np.diff(self.x.clip(x0, max(x0, x1))) / np.diff(self.x)
        return np.multiply.outer(rows, columns)


def _changed(event: SampleEvent, before: float, now: float, cells: _Cells, level: float) -> np.ndarray:
    """(rows, columns) share of each patch that the event changed between two sampled frames."""
    nothing = np.zeros((len(cells.y) - 1, len(cells.x) - 1))
    then, box = event.box_at(before), event.box_at(now)
    if event.kind == "noise" or box is None:
        return nothing
    if event.kind in ("cut", "texture_change"):
        return cells.covered(box) if then is None else nothing
    if event.kind == "flash":
        shown = [event.start_seconds <= t + ROUNDING < event.end_seconds for t in (before, now)]
        return cells.covered(box) if shown[0] != shown[1] else nothing
    if event.kind in ("fade", "light_drift"):
        changes = event.level_at(before) < event.level_at(now) and event.level_at(now) + ROUNDING >= level
        return cells.covered(box) if changes else nothing
    if event.kind == "camera_pan":
        old = event.track[0][1] if then is None else then
        seen = Box(old.y0 - box.y0, old.x0 - box.x0, old.y1 - box.y0, old.x1 - box.x0)
        return 1 - cells.covered(seen)
    fresh = cells.covered(box) - (0 if then is None else cells.covered(box, then))
    if event.kind == "moving_object" and then is not None:
        fresh = fresh + cells.covered(then) - cells.covered(box, then)
    return np.asarray(fresh)
