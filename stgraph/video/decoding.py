"""From chosen frames of an index to upright RGB pictures."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError, readable
from .index import Index
from .opening import Damage, open_stream
from .packets import EVERYTHING, Span, pictures
from .video import Video

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Plan:
    """Which frames of a file to decode, and how large.

    ``chosen`` (T,) int64 of them, ``wanted`` how many were asked for, ``size`` the shorter side that was asked for, and
    ``largest`` the longest shorter side that is used.
    """

    path: Path
    index: Index
    chosen: np.ndarray
    wanted: int | None
    size: int | None
    largest: int | None
    damage: Damage

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns to which frames of this size are scaled while they are decoded."""
        shorter = min(height, width)
        wanted = min(shorter if self.size is None else self.size, self.largest or 2**31)
        return max(1, round(height * wanted / shorter)), max(1, round(width * wanted / shorter))


#: How many keyframes earlier decoding begins, where a frame does not appear after a seek; None is the first of all.
_STEPS_BACK = (0, 1, 8, None)


def _sampled(
    path: Path, index: Index, chosen: np.ndarray, damage: Damage
) -> Iterator[tuple[int, int, VideoFrame | None]]:
    """For each chosen frame: its number, the number of the decoded frame then on screen, and that frame, None if lost.

    Streams with intra refresh have recovery points in the place of keyframes, from which it takes a while until
    pictures are whole. So where a frame does not appear, decoding begins again from an earlier keyframe, for this
    frame and those after it. Only what is missing when all has been decoded from the first one is damage.
    """
    todo = chosen
    for back in _STEPS_BACK if index.timed else (None,):
        trial = damage if back is None else Damage(path, allowed=True)
        for wanted, number, frame in _decoded(path, index, todo, back, trial):
            if back is not None and (trial.findings or frame is None or frame.is_corrupt):
                break
            todo = todo[1:]
            yield wanted, number, frame
        if not len(todo):
            return


def _decoded(
    path: Path, index: Index, chosen: np.ndarray, back: int | None, damage: Damage
) -> Iterator[tuple[int, int, VideoFrame | None]]:
    """What :func:`_sampled` yields when decoding begins ``back`` keyframes before the one that a frame names."""
    keyframes, where = np.unique(index.keyframe, return_index=True)
    place = np.searchsorted(keyframes, index.keyframe[chosen])
    place = np.maximum(place - back, 0) if back is not None else np.zeros_like(place)
    spans: list[Span] = []
    for begin, last in zip(place, index.packet[chosen], strict=True):
        first, key = int(keyframes[begin]), int(index.keyframe_key[where[begin]])
        if spans and first <= spans[-1].last + 1:
            spans[-1].last = max(int(last), spans[-1].last)
        else:
            spans.append(Span(first, int(last), key))
    if not index.timed:
        spans = [EVERYTHING]
    queue = deque(chosen.tolist())
    number: int = -1
    frame: VideoFrame | None = None

    def shown(wanted: int) -> tuple[int, int, VideoFrame | None]:
        # Field pairs and hidden reference frames are packets without a picture of their own: on screen is the frame
        # before. Anything further back was lost.
        return wanted, number, frame if wanted - number <= 1 else None

    with open_stream(path) as (container, stream):
        for count, decoded in enumerate(pictures(container, stream, spans, damage)):
            time = decoded.pts if index.timed else count
            now = -1 if time is None else int(np.searchsorted(index.keys, time, side="right")) - 1
            while queue and queue[0] < now:
                yield shown(queue.popleft())
            if not queue:
                return
            if now > number:
                number, frame = now, decoded
    for left in queue:
        yield shown(left)


def gather(plan: Plan, report: Progress) -> Video:
    """The chosen frames."""
    notes: dict[str, None] = {}
    room = torch.empty(0, dtype=torch.uint8)
    numbers: list[int] = []
    stored = None
    for number, image, size in pictures_of(plan, notes, report):
        stored = size
        if not numbers:  # rows of RGB pixels in memory, as they are decoded and drawn
            height, width = image.shape[1:]
            room = _room(len(plan.chosen), height, width)
        room[len(numbers)] = image.permute(1, 2, 0)
        numbers.append(number)
    if plan.wanted is not None and len(numbers) < plan.wanted:
        notes[f"{plan.wanted} frames were asked for; {len(numbers)} distinct ones are shown at these times"] = None
    return Video(
        room[: len(numbers)].permute(0, 3, 1, 2),
        torch.from_numpy(plan.index.times[numbers]),
        str(plan.path),
        plan.index.duration,
        (*plan.index.notes, *notes, *plan.damage.notes),
        stored,
    )


def _room(frames: int, height: int, width: int) -> Tensor:
    """Memory for (T, H, W, 3) uint8 pictures.

    Raises:
        StgraphError: the machine has less.
    """
    wanted = frames * height * width * 3
    try:
        if wanted > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError
        return torch.empty((frames, height, width, 3), dtype=torch.uint8)
    except (MemoryError, RuntimeError):
        raise StgraphError(
            f"{frames} frames of {width} × {height} pixels take {wanted / 2**30:.1f} GiB, more memory than there is; "
            "sample fewer frames or give video.size, the shorter side in pixels"
        ) from None


def pictures_of(plan: Plan, notes: dict[str, None], report: Progress) -> Iterator[tuple[int, Tensor, tuple[int, int]]]:
    """Every chosen frame that is there, at least one, each once: its number, its (3, H, W) uint8 picture, and the rows
    and columns that the file stores of it.


    Sentences that a user should know are added to ``notes``.
    """
    from av.video.reformatter import VideoReformatter

    index, damage = plan.index, plan.damage
    reformatter = VideoReformatter()  # one converter for all frames, so that its setup is done once
    last = -1
    stored: tuple[int, int] | None = None
    scaled = (0, 0)
    rotation: int | None = None
    matrix: np.ndarray | None = None
    for done, (wanted, number, frame) in enumerate(_sampled(plan.path, index, plan.chosen, damage), start=1):
        report(done, len(plan.chosen))
        if frame is None:
            damage.found(f"the frame at {index.times[wanted]:.2f} s cannot be decoded")
            continue
        if frame.is_corrupt:
            damage.found(f"the frame at {index.times[wanted]:.2f} s is damaged")
        if number <= last:
            continue
        if stored is None:
            stored = (frame.height, frame.width)
            scaled = plan.scaled(*stored)
        elif (frame.height, frame.width) != stored:
            notes["the frame size changes within the file; frames were scaled to the first one"] = None
        # A frame that was asked for side data stays until Python looks for cycles: asked each time, they would pile up.
        if frame.rotation != rotation:
            rotation, matrix = frame.rotation, _display_matrix(frame)
        image, upright = _upright(frame, scaled, matrix, reformatter)
        if not upright:
            notes["the file asks for a rotation that is no quarter turn; frames are kept as stored"] = None
        last = number
        turned = (image.shape[0] > image.shape[1]) != (scaled[0] > scaled[1])
        yield number, torch.from_numpy(image).permute(2, 0, 1), stored[::-1] if turned else stored
    if stored is None:
        raise StgraphError(
            f"no frame of {readable(plan.path)} can be decoded; the file is corrupt or its codec is not supported"
        )


def _display_matrix(frame: VideoFrame) -> np.ndarray | None:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(cast("bytes", matrix), dtype=np.int32).copy()


def _upright(
    frame: VideoFrame, scaled: tuple[int, int], matrix: np.ndarray | None, reformatter: VideoReformatter
) -> tuple[np.ndarray, bool]:
    """The frame as (H, W, 3) uint8 RGB, ``scaled`` (rows, columns) and then turned as its display matrix asks.

    The matrix maps stored to shown coordinates: x' = a·x + c·y, y' = b·x + d·y, in 16.16 fixed point.
    """
    height, width = scaled
    shrinks = height < frame.height
    interpolation = "AREA" if shrinks else "BILINEAR"
    rgb = reformatter.reformat(frame, width, height, "rgb24", interpolation=interpolation).to_ndarray()
    image = cast("np.ndarray", rgb)
    if matrix is None:
        return image, True
    a, b, _, c, d = matrix[:5].tolist()
    straight, turned = a and d and not (b or c), b and c and not (a or d)
    if turned:
        image = image.swapaxes(0, 1)
    if straight or turned:
        image = image[:: 1 if (b if turned else d) > 0 else -1, :: 1 if (c if turned else a) > 0 else -1]
    return np.ascontiguousarray(image), bool(straight or turned)
