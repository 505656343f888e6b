"""Reading sampled frames of a video file, all at once or block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch

from ..errors import StgraphError, check_number
from .decoding import Plan, Progress, gather, pictures_of
from .index import scan
from .opening import Damage
from .sampling import DEFAULT_FRAMES, choose_frames, time_window
from .video import Video

MAX_SIZE = 8192
"""Pixels of the shorter side to which frames can be scaled, at most."""


def read_video(
    path: str | Path,
    *,
    frames: int | None = None,
    fps: float | None = None,
    stride: int | None = None,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    size: int | None = None,
    largest: int | None = None,
    allow_corrupt: bool = False,
    progress: bool | Progress = False,
) -> Video:
    """Sample frames of a video file.

    At most one of ``frames``, ``fps`` and ``stride``; 64 frames when none is given. Sample times are in seconds from
    the first frame of the video stream, and each yields the frame that is on screen then, so variable frame rates are
    sampled by time. No frame is returned twice: ``len(video)`` may be smaller than ``frames``, and a note says so.

    The file is read twice, never held: once for the display times of all its frames, without decoding, then to decode
    just the groups of pictures that hold a sampled frame. Memory is that of the sampled frames as they are returned,
    plus some 100 bytes per frame of the file, plus the pictures of the decoder: up to 16 of the size that is stored
    (1.5 bytes a pixel), and one more for each of its threads, up to 4K; larger ones are decoded by one.

    The display rotation (and mirroring) of the file is applied; pixels that are not square are left as stored, with a
    note, and interlaced pictures as they are. Colours become 8-bit RGB by FFmpeg's rules; of several video streams the
    first is read.

    Args:
        path: any file that FFmpeg reads.
        frames: this many, evenly spaced over ``[start, end)`` as ``numpy.linspace`` does, first and last frame included
            (the sampling of LLaVA-Video).
        fps: this many per second from ``start``; from the file's own rate upwards this is every frame once.
        stride: every stride-th frame: 1 is every frame, 2 every second one.
        max_frames: where there would be more, this many, evenly spaced as ``frames`` are.
        start: first second, 0 when not given.
        end: second to stop before, the end of the video when not given.
        size: the shorter side of the frames after resizing (area average when shrinking), in pixels.
        largest: frames whose shorter side is longer than this are shrunk to it; no limit when not given.
        allow_corrupt: use what can be decoded of a truncated or corrupt file, and say so in ``notes``. Damage is seen
            by incomplete packets, failed decoding, and an end long before the declared length. So damaged pictures are
            found where frames are sampled, and a stream that declares no length (raw, MPEG-TS, fragmented MP4) and is
            cut between two packets is just a shorter video.
        progress: True shows a bar on stderr; a function is called with (frames done, frames chosen).

    Raises:
        StgraphError: no such file, not a video, no frames, audio only, truncated or corrupt, or arguments out of range.
    """
    plan = _plan(
        path,
        frames=frames,
        fps=fps,
        stride=stride,
        max_frames=max_frames,
        start=start,
        end=end,
        size=size,
        largest=largest,
        allow=allow_corrupt,
    )
    with _reporter(progress) as report:
        return gather(plan, report)


def read_blocks(
    path: str | Path,
    block: int = 64,
    *,
    frames: int | None = None,
    fps: float | None = None,
    stride: int | None = None,
    max_frames: int | None = None,
    start: float | None = None,
    end: float | None = None,
    size: int | None = None,
    largest: int | None = None,
    allow_corrupt: bool = False,
    progress: bool | Progress = False,
) -> Iterator[Video]:
    """The frames that :func:`read_video` samples, a few at a time: memory is that of one block.

    Args:
        path: this and all that is not said here as for :func:`read_video`.
        block: frames of each video that is returned, ≥ 1; the last may have fewer.

    Returns:
        The blocks in order of time. Each of the ``notes`` comes with the first block for which it is known.

    Raises:
        StgraphError: as :func:`read_video`; damage inside the file is found when its block is reached.
    """
    check_number("block", block, at_least=1, at_most=10**9, integer=True)
    plan = _plan(
        path,
        frames=frames,
        fps=fps,
        stride=stride,
        max_frames=max_frames,
        start=start,
        end=end,
        size=size,
        largest=largest,
        allow=allow_corrupt,
    )
    return _blocks(plan, block, progress)


def _blocks(plan: Plan, block: int, progress: bool | Progress) -> Iterator[Video]:
    notes: dict[str, None] = {}
    said: set[str] = set()
    times = plan.index.times
    with _reporter(progress) as report:
        pictures = pictures_of(plan, notes, report)
        while held := list(islice(pictures, block)):
            known = [note for note in (*plan.index.notes, *notes, *plan.damage.notes) if note not in said]
            said.update(known)
            seconds = torch.from_numpy(times[[number for number, _, _ in held]])
            frames = torch.stack([image for _, image, _ in held])
            yield Video(frames, seconds, str(plan.path), plan.index.duration, tuple(known), held[0][2])


def _plan(
    path: str | Path,
    *,
    frames: int | None,
    fps: float | None,
    stride: int | None,
    max_frames: int | None,
    start: float | None,
    end: float | None,
    size: int | None,
    largest: int | None,
    allow: bool,
) -> Plan:
    given = {"frames": frames, "fps": fps, "stride": stride}
    if sum(value is not None for value in given.values()) > 1:
        raise StgraphError(f"give one of frames, fps and stride, got {given}")
    for name, value in (("frames", frames), ("stride", stride), ("max_frames", max_frames)):
        if value is not None:
            check_number(name, value, at_least=1, at_most=10**9, integer=True)
    for name, value in (("size", size), ("largest", largest)):
        if value is not None:
            check_number(name, value, at_least=1, at_most=MAX_SIZE, integer=True)
    if fps is not None:
        check_number("fps", fps, above=0, at_most=1e6)
    source = Path(path)
    damage = Damage(source, allow)
    index = scan(source, damage)
    begin, stop = time_window(source, start, end, index.duration, index.longest)
    wanted = DEFAULT_FRAMES if frames is fps is stride is None else frames
    if wanted is not None and max_frames is not None:
        wanted = min(wanted, max_frames)
    chosen = choose_frames(index.times, start=begin, end=stop, frames=wanted, fps=fps, stride=stride)
    if max_frames is not None and len(chosen) > max_frames:
        chosen = choose_frames(index.times, start=begin, end=stop, frames=max_frames)
    return Plan(source, index, chosen, wanted, size, largest, damage)


@contextmanager
def _reporter(progress: bool | Progress) -> Iterator[Progress]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, total: None
    else:
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True)) as bar:
            task = bar.add_task("reading video", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
