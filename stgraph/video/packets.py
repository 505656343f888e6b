"""Decoding of chosen runs of packets; the packets between them never reach the decoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .opening import Damage

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer


@dataclass
class Span:
    """Packets from a keyframe, shown at ``key``, to a sampled frame."""

    first: int
    last: int
    key: int | None


EVERYTHING = Span(0, 2**62, None)


def pictures(container: InputContainer, stream: VideoStream, spans: list[Span], damage: Damage) -> Iterator[VideoFrame]:
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
            # Leading pictures of an open group need the group before, which was not decoded.
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
