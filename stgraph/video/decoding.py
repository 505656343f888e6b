"""From chosen frames of an index to upright RGB pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import StgraphError
from .index import Index
from .opening import Damage, open_stream
from .packets import EVERYTHING, Span, pictures

if TYPE_CHECKING:
    from av import VideoFrame

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """Which frames of a file to decode: ``chosen`` (T,) int64 of them, ``wanted`` how many were asked for."""

    path: Path
    index: Index
    chosen: np.ndarray
    wanted: int | None
    size: int | None
    damage: Damage


def _sampled(
    path: Path, index: Index, chosen: np.ndarray, damage: Damage
) -> Iterator[tuple[int, int, VideoFrame | None]]:
    """For each chosen frame: its number, the number of the decoded frame then on screen, and that frame."""
    spans: list[Span] = []
    for first, last, key in zip(index.keyframe[chosen], index.packet[chosen], index.keyframe_key[chosen], strict=True):
        if spans and first <= spans[-1].last + 1:
            spans[-1].last = max(last, spans[-1].last)
        else:
            spans.append(Span(int(first), int(last), int(key)))
    if not index.timed:
        spans = [EVERYTHING]
    queue = deque(chosen.tolist())
    number, frame = -1, None
    with open_stream(path) as (container, stream):
        for count, decoded in enumerate(pictures(container, stream, spans, damage)):
            key = decoded.pts if index.timed else count
            now = -1 if key is None else int(np.searchsorted(index.keys, key, side="right")) - 1
            while queue and queue[0] < now:
                yield queue.popleft(), number, frame
            if not queue:
                return
            if now > number:
                number, frame = now, decoded
    for left in queue:
        yield left, number, frame


def gather(plan: Plan, report: Progress) -> tuple[Tensor, Tensor, list[str]]:
    """The chosen frames as (T, 3, H, W) uint8, their seconds, and notes."""
    notes: dict[str, None] = {}
    pictures = torch.empty(0, dtype=torch.uint8)
    numbers: list[int] = []
    for number, image in pictures_of(plan, notes, report):
        if not numbers:
            pictures = torch.empty((len(plan.chosen), *image.shape), dtype=torch.uint8)
        pictures[len(numbers)] = image
        numbers.append(number)
    return pictures[: len(numbers)], torch.from_numpy(plan.index.times[numbers]), list(notes)


def pictures_of(plan: Plan, notes: dict[str, None], report: Progress) -> Iterator[tuple[int, Tensor]]:
    """Number and (3, H, W) uint8 picture of every chosen frame that is there, at least one; each frame once.

    Sentences that a user should know are added to ``notes``.
    """
    index, damage, size = plan.index, plan.damage, plan.size
    last = -1
    stored: tuple[int, int] | None = None
    scaled = (0, 0)
    rotation: int | None = None
    matrix: np.ndarray | None = None
    for done, (wanted, number, frame) in enumerate(_sampled(plan.path, index, plan.chosen, damage), start=1):
        report(done, len(plan.chosen))
        # Field pairs and hidden reference frames are packets without a picture of their own: on screen is the frame
        # before. Anything further back was lost.
        if frame is None or wanted - number > 1:
            damage.found(f"the frame at {index.times[wanted]:.2f} s cannot be decoded")
            continue
        if frame.is_corrupt:
            damage.found(f"the frame at {index.times[wanted]:.2f} s is damaged")
        if number <= last:
            continue
        if stored is None:
            stored = (frame.height, frame.width)
            scale = 1.0 if size is None else size / min(stored)
            scaled = (max(1, round(frame.height * scale)), max(1, round(frame.width * scale)))
        elif (frame.height, frame.width) != stored:
            notes["the frame size changes within the file; frames were scaled to the first one"] = None
        # A frame that was asked for side data stays until Python looks for cycles: asked each time, they would pile up.
        if frame.rotation != rotation:
            rotation, matrix = frame.rotation, _display_matrix(frame)
        image, upright = _upright(frame, scaled, matrix)
        if not upright:
            notes["the file asks for a rotation that is no quarter turn; frames are kept as stored"] = None
        last = number
        yield number, torch.from_numpy(image).permute(2, 0, 1)
    if stored is None:
        raise StgraphError(f"no frame of {plan.path} can be decoded; the file is corrupt or its codec is not supported")


def _display_matrix(frame: VideoFrame) -> np.ndarray | None:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else np.frombuffer(cast("bytes", matrix), dtype=np.int32).copy()


def _upright(frame: VideoFrame, scaled: tuple[int, int], matrix: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """The frame as (H, W, 3) uint8 RGB, ``scaled`` (rows, columns) and then turned as its display matrix asks.

    The matrix maps stored to shown coordinates: x' = a·x + c·y, y' = b·x + d·y, in 16.16 fixed point.
    """
    height, width = scaled
    shrinks = height < frame.height
    rgb = frame.reformat(width, height, "rgb24", interpolation="AREA" if shrinks else "BILINEAR").to_ndarray()
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
