"""The index of a video file: when its frames are shown, and which packets it takes to decode each."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import StgraphError, readable
from .endings import cut_off
from .opening import Damage, open_stream
from .packets import EVERYTHING, pictures


@dataclass(frozen=True)
class Index:
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


def scan(path: Path, damage: Damage) -> Index:
    """Read all packets of the file without decoding them."""
    import av

    keys, packets = array("q"), array("q")
    keyframe_keys, keyframes = array("q"), array("q")
    ends: dict[int, int] = {}
    position, last_dts, final = 0, None, (-(2**63), 0)
    with open_stream(path) as (container, stream):
        if what := cut_off(path, container.format.name):
            damage.found(what)
        timed = container.format.name != "avi"  # it stores decoding order only; FFmpeg's guesses fail with B-frames
        tick, rate = float(stream.time_base or 1), float(stream.average_rate or stream.guessed_rate or 25)
        aspect = stream.sample_aspect_ratio
        # each picture depends on earlier ones, also where they are marked as keyframes
        builds_alone = container.format.name != "apng"
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
                    if packet.is_keyframe and builds_alone:
                        keyframe_keys.append(packet.pts)
                        keyframes.append(position)
                    if not packet.is_discard:  # removed by an edit list: needed to decode other frames, but not shown
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
    if len(set(keys)) < len(keys) and (rate * tick > 1 or len(keys) > max(keys) - min(keys) + 1):
        timed = False  # more frames than the file has ticks: several share a time
    if not timed:
        return _count(path, rate, damage, notes)
    shown, place, first, first_key = _groups(
        *(np.array(a, np.int64) for a in (keys, packets, keyframe_keys, keyframes))
    )
    if len(shown) == 0:
        raise StgraphError(f"{readable(path)} has no frames; give a video with at least one")
    shortest = float(np.diff(shown).min()) * tick if len(shown) > 1 else 0.0
    # The last frame is on screen no shorter than any other: a stated rate may be far off.
    duration = float(shown[-1] - shown[0]) * tick + max(final[1] * tick or 1 / rate, shortest)
    longest = max(duration, (end_seconds or 0.0) - float(shown[0]) * tick)
    return Index(shown, place, first, first_key, tick, duration, longest, True, notes)


def _groups(
    keys: np.ndarray, packets: np.ndarray, keyframe_keys: np.ndarray, keyframes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames in display order: their times, packets, and the packet and time of the last keyframe shown before each."""
    if len(keyframes) == 0:  # a stream with intra refresh can only be decoded from its beginning
        keyframe_keys, keyframes = keys[:1], packets[:1]
    shown, where = np.unique(keys, return_index=True)
    order = np.argsort(keyframe_keys, kind="stable")
    group = np.searchsorted(keyframe_keys[order], shown, side="right") - 1
    decodable = group >= 0  # a recording may begin in the middle of a group
    shown, place, group = shown[decodable], packets[where[decodable]], order[group[decodable]]
    return shown, place, np.minimum(keyframes[group], place), keyframe_keys[group]


def _count(path: Path, rate: float, damage: Damage, notes: tuple[str, ...]) -> Index:
    """The index of a file without usable display times: all frames are decoded, and timed by the frame rate."""
    with open_stream(path) as (container, stream):
        count = sum(1 for _ in pictures(container, stream, [EVERYTHING], damage))
    if count == 0:
        raise StgraphError(f"{readable(path)} has no frames; give a video with at least one")
    numbers, zeros = np.arange(count), np.zeros(count, dtype=np.int64)
    note = f"the file holds no usable display times; frames were timed at {rate:g} per second"
    return Index(numbers, numbers, zeros, zeros, 1 / rate, count / rate, count / rate, False, (*notes, note))
