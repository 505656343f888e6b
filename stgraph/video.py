"""Video: sampled frames of a file, how they are read, and a writer."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from .errors import StgraphError, check_number

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

DEFAULT_FRAMES = 64

#: Seconds by which a stored display time may be off: Matroska and Flash keep whole milliseconds.
ROUNDING = 5e-4

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Video:
    """Frames of a video and when they are shown.

    Attributes:
        frames: (T, 3, H, W) uint8 RGB, T ≥ 1.
        timestamps: (T,) float64, seconds from the first frame of the file's video stream, strictly increasing.
        source: the path it was read from, or None.
        duration: seconds of the whole file, or None when unknown.
        notes: sentences about what a reader did that a user should know (fewer frames than asked for, ...).

    Raises:
        StgraphError: shapes, dtypes or an order of timestamps that do not fit together.
    """

    frames: Tensor
    timestamps: Tensor
    source: str | None = None
    duration: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.frames.shape), self.frames.dtype
        if len(shape) != 4 or shape[1] != 3 or min(shape) < 1 or dtype != torch.uint8:
            raise StgraphError(f"frames must be (T, 3, H, W) uint8 with at least one frame, got {shape} {dtype}")
        if tuple(self.timestamps.shape) != shape[:1] or self.timestamps.dtype != torch.float64:
            raise StgraphError(
                f"timestamps must be ({shape[0]},) float64, one second per frame, got "
                f"{tuple(self.timestamps.shape)} {self.timestamps.dtype}"
            )
        if not bool(self.timestamps.isfinite().all()) or bool((self.timestamps.diff() <= 0).any()):
            raise StgraphError("timestamps must be finite and strictly increasing")

    def __len__(self) -> int:
        return self.frames.shape[0]

    def __repr__(self) -> str:
        span = f"{float(self.timestamps[0]):.2f}–{float(self.timestamps[-1]):.2f} s"
        return f"Video({len(self)} frames of {self.height}×{self.width}, {span}, source={self.source!r})"

    @property
    def height(self) -> int:
        """Rows of a frame."""
        return self.frames.shape[2]

    @property
    def width(self) -> int:
        """Columns of a frame."""
        return self.frames.shape[3]


# -- which frames -----------------------------------------------------------------------------------------------------


def choose_frames(
    times: np.ndarray,
    *,
    end: float,
    start: float = 0.0,
    frames: int | None = None,
    fps: float | None = None,
    stride: int | None = None,
) -> np.ndarray:
    """Which frames are on screen at the sampled times.

    A frame is on screen from its own time to that of the next one, whatever the rate. At most one of ``frames``,
    ``fps`` and ``stride`` is given; every frame is chosen when none is.

    Args:
        times: (F,) float64, strictly increasing display times in seconds.
        end: sample times are before this second; the last frame is on screen until then.
        start: sample times begin at this second.
        frames: number of sample times, evenly spaced from ``start`` to the last frame before ``end``, both included.
        fps: sample times ``start``, ``start + 1/fps``, ...
        stride: every stride-th frame, whatever its time.

    Returns:
        int64 frame numbers, strictly increasing: a frame that is on screen at several sample times is taken once.
    """
    first = max(int(_on_screen(times, start)), 0)
    last = max(int(np.searchsorted(times, end - ROUNDING)) - 1, first)
    if stride is not None:
        return np.arange(first, last + 1, stride)
    begin = max(start, float(times[first]))
    if fps is not None:
        # Sample k falls to the frame whose time is the last one before it: count samples per frame, never list them.
        edges = np.append(times[first : last + 1], end)
        sample = np.ceil((edges - ROUNDING - begin) * fps).clip(min=0)
        return first + np.flatnonzero(np.diff(sample) > 0)
    if frames is None or frames > last - first:
        return np.arange(first, last + 1)
    return np.unique(_on_screen(times, np.linspace(begin, times[last], frames)))


def _on_screen(times: np.ndarray, seconds: float | np.ndarray) -> np.ndarray:
    number: np.ndarray = np.searchsorted(times, np.asarray(seconds) + ROUNDING, side="right") - 1
    return number


# -- reading ----------------------------------------------------------------------------------------------------------


def read_video(
    path: str | Path,
    *,
    frames: int | None = None,
    fps: float | None = None,
    stride: int | None = None,
    start: float | None = None,
    end: float | None = None,
    size: int | None = None,
    allow_corrupt: bool = False,
    progress: bool | Progress = False,
) -> Video:
    """Sample frames of a video file.

    At most one of ``frames``, ``fps`` and ``stride``; 64 frames when none is given. Sample times are in seconds from
    the first frame of the video stream, and each yields the frame that is on screen then, so variable frame rates are
    sampled by time. No frame is returned twice: ``len(video)`` may be smaller than ``frames``, and a note says so.

    The file is read twice, never held: once for the display times of all its frames, without decoding, then to decode
    just the groups of pictures that hold a sampled frame. Memory is that of the sampled frames plus some 100 bytes per
    frame of the file. The display rotation (and mirroring) of the file is applied; pixels that are not square are left
    as stored, with a note, and interlaced pictures as they are. Colours become 8-bit RGB by FFmpeg's rules; of several
    video streams the first is read.

    Args:
        path: any file that FFmpeg reads.
        frames: this many, evenly spaced over ``[start, end)`` as ``numpy.linspace`` does, first and last frame included
            (the sampling of LLaVA-Video).
        fps: this many per second from ``start``; from the file's own rate upwards this is every frame once.
        stride: every stride-th frame: 1 is every frame, 2 every second one.
        start: first second, 0 when not given.
        end: second to stop before, the end of the video when not given.
        size: the shorter side of the frames after resizing (area average when shrinking), in pixels.
        allow_corrupt: use what can be decoded of a truncated or corrupt file, and say so in ``notes``. Damage is seen
            by incomplete packets, failed decoding, and an end long before the declared length. So damaged pictures are
            found where frames are sampled, and a stream that declares no length (raw, MPEG-TS, fragmented MP4) and is
            cut between two packets is just a shorter video.
        progress: True shows a bar on stderr; a function is called with (frames done, frames chosen).

    Raises:
        StgraphError: no such file, not a video, no frames, audio only, truncated or corrupt, or arguments out of range.
    """
    plan = _plan(path, frames=frames, fps=fps, stride=stride, start=start, end=end, size=size, allow=allow_corrupt)
    with _reporter(progress) as report:
        pictures, timestamps, notes = _gather(plan, report)
    if plan.wanted is not None and len(timestamps) < plan.wanted:
        notes.append(f"{plan.wanted} frames were asked for; {len(timestamps)} distinct ones are shown at these times")
    return Video(pictures, timestamps, str(path), plan.index.duration, (*plan.index.notes, *notes, *plan.damage.notes))


def read_blocks(
    path: str | Path,
    block: int = 64,
    *,
    frames: int | None = None,
    fps: float | None = None,
    stride: int | None = None,
    start: float | None = None,
    end: float | None = None,
    size: int | None = None,
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
    check_number("block", block, at_least=1, integer=True)
    plan = _plan(path, frames=frames, fps=fps, stride=stride, start=start, end=end, size=size, allow=allow_corrupt)
    return _blocks(plan, block, progress)


def _blocks(plan: _Plan, block: int, progress: bool | Progress) -> Iterator[Video]:
    notes: dict[str, None] = {}
    said: set[str] = set()
    times = plan.index.times
    with _reporter(progress) as report:
        pictures = _pictures_of(plan, notes, report)
        while held := list(islice(pictures, block)):
            known = [note for note in (*plan.index.notes, *notes, *plan.damage.notes) if note not in said]
            said.update(known)
            seconds = torch.from_numpy(times[[number for number, _ in held]])
            frames = torch.stack([image for _, image in held])
            yield Video(frames, seconds, str(plan.path), plan.index.duration, tuple(known))


@dataclass(frozen=True)
class _Plan:
    """Which frames of a file to decode: ``chosen`` (T,) int64 of them, ``wanted`` how many were asked for."""

    path: Path
    index: _Index
    chosen: np.ndarray
    wanted: int | None
    size: int | None
    damage: _Damage


def _plan(
    path: str | Path,
    *,
    frames: int | None,
    fps: float | None,
    stride: int | None,
    start: float | None,
    end: float | None,
    size: int | None,
    allow: bool,
) -> _Plan:
    given = {"frames": frames, "fps": fps, "stride": stride}
    if sum(value is not None for value in given.values()) > 1:
        raise StgraphError(f"give one of frames, fps and stride, got {given}")
    for name, value in (("frames", frames), ("stride", stride), ("size", size)):
        if value is not None:
            check_number(name, value, at_least=1, integer=True)
    if fps is not None:
        check_number("fps", fps, above=0)
    source = Path(path)
    damage = _Damage(source, allow)
    index = _scan(source, damage)
    begin, stop = _window(source, start, end, index.duration, index.longest)
    wanted = DEFAULT_FRAMES if frames is fps is stride is None else frames
    chosen = choose_frames(index.times, start=begin, end=stop, frames=wanted, fps=fps, stride=stride)
    return _Plan(source, index, chosen, wanted, size, damage)


@dataclass(frozen=True)
class _Index:
    """When the frames of a file are shown and which packets it takes to decode each.

    ``keys`` (F,) are display times in ticks, or plain frame numbers where the file has no usable times; ``packet`` (F,)
    is the place of each frame's packet in the file, ``keyframe`` (F,) that of the packet from which decoding must
    start, and ``keyframe_key`` (F,) its display time.
    """

    keys: np.ndarray
    packet: np.ndarray
    keyframe: np.ndarray
    keyframe_key: np.ndarray
    tick: float
    duration: float
    longest: float
    timed: bool
    notes: tuple[str, ...] = ()

    @property
    def times(self) -> np.ndarray:
        """(F,) float64 seconds from the first frame."""
        times: np.ndarray = (self.keys - self.keys[0]) * self.tick
        return times


class _Damage:
    """What is broken in a file: the first finding is an error, or with ``allowed`` all become one note."""

    def __init__(self, path: Path, allowed: bool) -> None:
        self.path, self.allowed = path, allowed
        self.findings: dict[str, None] = {}

    def found(self, what: str) -> None:
        if not self.allowed:
            raise StgraphError(
                f"{self.path} is truncated or corrupt: {what}; allow_corrupt=True (--allow-corrupt) uses "
                "what can be decoded"
            )
        self.findings[what] = None

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.findings:
            return ()
        more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
        return (f"the file is truncated or corrupt: {next(iter(self.findings))}{more}; what could be decoded was used",)


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream that is not a cover picture."""
    import av

    if not path.exists():
        raise StgraphError(f"no such file: {path}")
    if path.is_dir():
        raise StgraphError(f"{path} is a folder; give the path of one video file")
    unreadable = f"{path} is not a video that FFmpeg can read, or its header is cut off"
    try:
        container = av.open(f"file:{path}")  # without the scheme FFmpeg takes "a:b.mp4" for a protocol
    except av.error.PermissionError:
        raise StgraphError(f"{path} may not be read by this user; change its permissions") from None
    except (av.error.FFmpegError, OSError):
        raise StgraphError(unreadable) from None
    with container:
        if container.format.name == "tty":  # FFmpeg plays plain text as terminal art
            raise StgraphError(unreadable)
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            content = "only sound" if container.streams.audio else "no video stream"
            raise StgraphError(f"{path} holds {content}; give a file with pictures")
        stream = streams[0]
        stream.thread_type = "AUTO"
        yield container, stream


def _scan(path: Path, damage: _Damage) -> _Index:
    """Read all packets of the file without decoding them."""
    import av

    keys, packets = array("q"), array("q")
    keyframe_keys, keyframes = array("q"), array("q")
    ends: dict[int, int] = {}
    position, last_dts, final = 0, None, (-(2**63), 0)
    with _open(path) as (container, stream):
        timed = container.format.name != "avi"  # it stores decoding order only; FFmpeg's guesses fail with B-frames
        tick, rate = float(stream.time_base or 1), float(stream.average_rate or stream.guessed_rate or 25)
        aspect = stream.sample_aspect_ratio
        try:
            for packet in container.demux():
                if not packet.size:
                    continue
                if packet.is_corrupt:
                    damage.found("a packet is incomplete")
                if packet.pts is not None:
                    end = packet.pts + (packet.duration or 0)
                    ends[packet.stream_index] = max(ends.get(packet.stream_index, end), end)
                if packet.stream_index != stream.index:
                    continue
                if packet.pts is None or (last_dts is not None and packet.dts is not None and packet.dts < last_dts):
                    timed = False
                else:
                    last_dts = packet.dts if packet.dts is not None else last_dts
                    if packet.is_keyframe:
                        keyframe_keys.append(packet.pts)
                        keyframes.append(position)
                    if not packet.is_discard:  # cut away by an edit list: needed to decode others, never shown
                        final = max(final, (packet.pts, packet.duration or 0))
                        keys.append(packet.pts)
                        packets.append(position)
                position += 1
        except av.error.FFmpegError as error:
            damage.found(f"reading stops after {position} packets ({error.strerror})")
        end_seconds = max((end * float(container.streams[i].time_base or 1) for i, end in ends.items()), default=None)
        # Some containers declare the length from their first packet, some from time zero: take the later end.
        if end_seconds is not None and container.duration is not None:
            declared, origin = container.duration / av.time_base, (container.start_time or 0) / av.time_base
            reached = end_seconds - min(origin, 0.0)
            if reached + max(0.5, 2 / rate) < declared:
                damage.found(f"it declares {declared:.2f} s and ends after {reached:.2f} s")
    notes = () if not aspect or aspect == 1 else (f"pixels are not square ({aspect}); frames are kept as stored",)
    if not timed:
        return _count(path, rate, damage, notes)
    shown, place, first, first_key = _groups(
        *(np.array(a, np.int64) for a in (keys, packets, keyframe_keys, keyframes))
    )
    if len(shown) == 0:
        raise StgraphError(f"{path} has no frames; give a video with at least one")
    duration = float(shown[-1] - shown[0]) * tick + (final[1] * tick or 1 / rate)
    longest = max(duration, (end_seconds or 0.0) - float(shown[0]) * tick)
    return _Index(shown, place, first, first_key, tick, duration, longest, True, notes)


def _groups(
    keys: np.ndarray, packets: np.ndarray, keyframe_keys: np.ndarray, keyframes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames in display order: their times, packets, and the packet and time of the last keyframe shown before each."""
    if len(keyframes) == 0:  # a stream that refreshes bit by bit decodes only from its beginning
        keyframe_keys, keyframes = keys[:1], packets[:1]
    shown, where = np.unique(keys, return_index=True)
    order = np.argsort(keyframe_keys, kind="stable")
    group = np.searchsorted(keyframe_keys[order], shown, side="right") - 1
    decodable = group >= 0  # a recording may begin in the middle of a group
    shown, place, group = shown[decodable], packets[where[decodable]], order[group[decodable]]
    return shown, place, np.minimum(keyframes[group], place), keyframe_keys[group]


def _count(path: Path, rate: float, damage: _Damage, notes: tuple[str, ...]) -> _Index:
    """The index of a file without usable display times: all frames are decoded, and timed by the frame rate."""
    with _open(path) as (container, stream):
        count = sum(1 for _ in _pictures(container, stream, [_EVERYTHING], damage))
    if count == 0:
        raise StgraphError(f"{path} has no frames; give a video with at least one")
    numbers, zeros = np.arange(count), np.zeros(count, dtype=np.int64)
    note = f"the file holds no usable display times; frames were timed at {rate:g} per second"
    return _Index(numbers, numbers, zeros, zeros, 1 / rate, count / rate, count / rate, False, (*notes, note))


def _window(path: Path, start: float | None, end: float | None, duration: float, longest: float) -> tuple[float, float]:
    if start is not None:
        check_number("start", start, at_least=0)
    if end is not None:
        check_number("end", end, above=0)
    begin, stop = start or 0.0, duration if end is None else end
    if start is not None and end is not None and start >= end:
        raise StgraphError(f"start must be before end, got {start:g} s and {end:g} s")
    if begin >= duration or stop > longest + ROUNDING:
        name, value = ("start", begin) if begin >= duration else ("end", stop)
        raise StgraphError(f"{name} is {value:g} s, but {path} lasts {duration:.3f} s; choose a time inside it")
    return begin, stop


def _sampled(
    path: Path, index: _Index, chosen: np.ndarray, damage: _Damage
) -> Iterator[tuple[int, int, VideoFrame | None]]:
    """For each chosen frame: its number, the number of the decoded frame then on screen, and that frame."""
    spans: list[_Span] = []
    for first, last, key in zip(index.keyframe[chosen], index.packet[chosen], index.keyframe_key[chosen], strict=True):
        if spans and first <= spans[-1].last + 1:
            spans[-1].last = max(last, spans[-1].last)
        else:
            spans.append(_Span(int(first), int(last), int(key)))
    if not index.timed:
        spans = [_EVERYTHING]
    queue = deque(chosen.tolist())
    number, frame = -1, None
    with _open(path) as (container, stream):
        for count, decoded in enumerate(_pictures(container, stream, spans, damage)):
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


@dataclass
class _Span:
    """Packets from a keyframe, shown at ``key``, to a sampled frame."""

    first: int
    last: int
    key: int | None


_EVERYTHING = _Span(0, 2**62, None)


def _pictures(
    container: InputContainer, stream: VideoStream, spans: list[_Span], damage: _Damage
) -> Iterator[VideoFrame]:
    """Decode the packets inside the (sorted, disjoint) spans; the packets between them never reach the decoder."""
    import av

    def decode(packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            return stream.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            damage.found(f"decoding fails ({error.strerror})")
            return []

    todo, position = deque(spans), -1
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            position += 1
            span = todo[0]
            if position < span.first:
                continue
            # Leading pictures of an open group refer to the group before, which was not decoded.
            if span.key is None or packet.pts is None or packet.pts >= span.key:
                yield from decode(packet)
            if position == span.last:
                yield from decode(None)
                stream.codec_context.flush_buffers()
                todo.popleft()
                if not todo:
                    return
    except av.error.FFmpegError as error:
        damage.found(f"reading stops after {position + 1} packets ({error.strerror})")
    yield from decode(None)


def _gather(plan: _Plan, report: Progress) -> tuple[Tensor, Tensor, list[str]]:
    """The chosen frames as (T, 3, H, W) uint8, their seconds, and notes."""
    notes: dict[str, None] = {}
    pictures = torch.empty(0, dtype=torch.uint8)
    numbers: list[int] = []
    for number, image in _pictures_of(plan, notes, report):
        if not numbers:
            pictures = torch.empty((len(plan.chosen), *image.shape), dtype=torch.uint8)
        pictures[len(numbers)] = image
        numbers.append(number)
    return pictures[: len(numbers)], torch.from_numpy(plan.index.times[numbers]), list(notes)


def _pictures_of(plan: _Plan, notes: dict[str, None], report: Progress) -> Iterator[tuple[int, Tensor]]:
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


# -- writing ----------------------------------------------------------------------------------------------------------


def write_video(
    path: str | Path, frames: Tensor | Iterable[Tensor], fps: float, *, quality: int = 18, preset: str = "medium"
) -> None:
    """Write an H.264 MP4 that every player reads (yuv420p).

    Odd heights and widths grow by one row or column, a copy of the last: 4:2:0 colour needs even sizes. The same
    frames give the same file. It appears under its name only when it is complete.

    Args:
        path: ends in ``.mp4``.
        frames: (T, 3, H, W) uint8 RGB, or an iterable of (3, H, W) uint8, which is never held as a whole.
        fps: frames per second.
        quality: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's speed preset.

    Raises:
        StgraphError: no frames, frames of different shape or dtype, or a folder that cannot be written.
    """
    import av

    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise StgraphError(f"write_video writes MP4, but the path is {path}; let it end in .mp4")
    check_number("fps", fps, above=0)
    check_number("quality", quality, at_least=0, at_most=51, integer=True)
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise StgraphError("write_video needs at least one frame")
    partial = path.with_name(f".{path.stem}-{uuid4().hex}.part")
    try:
        with av.open(f"file:{partial}", "w", format="mp4") as container:
            rate = Fraction(fps).limit_denominator(1001)
            # Without these two, what x264 writes depends on which of its threads is faster.
            options = {"crf": str(quality), "preset": preset, "rc-lookahead": "0"}
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.thread_count = 1
            stream.height, stream.width = (n + n % 2 for n in first.shape[-2:])
            stream.pix_fmt = "yuv420p"
            for number, frame in enumerate(chain((first,), rest)):
                if frame.ndim != 3 or frame.shape != first.shape or frame.shape[0] != 3 or frame.dtype != torch.uint8:
                    raise StgraphError(
                        f"frames must be (3, H, W) uint8 of one size, got {tuple(frame.shape)} {frame.dtype} for frame "
                        f"{number} after {tuple(first.shape)}"
                    )
                image = np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())
                even = np.pad(image, [(0, n % 2) for n in image.shape[:2]] + [(0, 0)], mode="edge")
                picture = av.VideoFrame.from_ndarray(even, format="rgb24")
                picture.pts = number
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        partial.replace(path)
    except (OSError, av.error.FFmpegError) as error:
        reason = error.strerror or error
        raise StgraphError(f"{path} cannot be written ({reason}); check the folder and the free space") from None
    finally:
        partial.unlink(missing_ok=True)
