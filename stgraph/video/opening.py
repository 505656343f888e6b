"""Opening a video file, and what is done about damage in it."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StgraphError, readable

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer

#: Formats that name other files or devices, draw text as pictures, or take a file name for a pattern of many.
_REFUSED = frozenset(
    [
        "hls",
        "concat",
        "dash",
        "imf",
        "sdp",
        "sap",
        "rtsp",
        "rtp",
        "rtp_mpegts",
        "webm_dash_manifest",
        "image2",
        "image2pipe",
        "lavfi",
        "tty",
        "alsa",
        "fbdev",
        "jack",
        "kmsgrab",
        "oss",
        "pulse",
        "v4l2",
        "x11grab",
    ]
)

#: How files begin that list other files.
_PLAYLISTS = re.compile(rb"\s*(#EXTM3U|ffconcat version|(<\?xml[^>]*>\s*)?<MPD\b)")

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+[^/]")

#: Pixels of a frame, those of 4K, from which on the decoder gets no threads with pictures of their own.
_LARGE = 4096 * 2304


class Damage:
    """Collects the damage of a file.

    The first finding is raised as an error; with ``allowed``, all findings become one note.
    """

    def __init__(self, path: Path, allowed: bool) -> None:
        self.path, self.allowed = path, allowed
        self.findings: dict[str, None] = {}

    def found(self, what: str) -> None:
        """Add one finding; raises :class:`StgraphError` unless damage is allowed."""
        if not self.allowed:
            raise StgraphError(
                f"{readable(self.path)} is truncated or corrupt: {what}; allow_corrupt=True (--allow-corrupt) uses "
                "what can be decoded"
            )
        self.findings[what] = None

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence about all findings, or none."""
        if not self.findings:
            return ()
        more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
        return (f"the file is truncated or corrupt: {next(iter(self.findings))}{more}; what could be decoded was used",)


@contextmanager
def open_stream(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream that is not a cover picture.

    Only this one file is ever opened: FFmpeg's readers of playlists, devices and patterns of names are not used.

    Raises:
        StgraphError: no such file, no regular file, an address, a playlist, not a video, or one without pictures.
    """
    import av

    name = readable(path)
    check_file(path)
    unreadable = f"{name} is not a video that FFmpeg can read, or its header is cut off"
    try:
        # Without the scheme FFmpeg reads "a:" in "a:b.mp4" as a protocol.
        container = av.open(f"file:{path}", options={"format_whitelist": _formats(), "protocol_whitelist": "file"})
    except av.error.PermissionError:
        raise StgraphError(f"{name} may not be read by this user; change its permissions") from None
    except (av.error.FFmpegError, OSError):
        raise StgraphError(_unopened(path) or unreadable) from None
    with container:
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            content = "only sound" if container.streams.audio else "no video stream"
            raise StgraphError(f"{name} holds {content}; give a video file")
        if container.format.name == "webp_pipe" and _is_animated_webp(path):
            raise StgraphError(f"{name} is an animated WebP, which FFmpeg cannot read; convert it to MP4 or GIF first")
        stream = streams[0]
        # Frame threads decode pictures side by side, each in memory of its own. APNG pictures build on one another,
        # although all are marked as keyframes.
        context = stream.codec_context
        one_by_one = context.name == "apng" or context.width * context.height > _LARGE
        stream.thread_type = "SLICE" if one_by_one else "AUTO"
        yield container, stream


def check_file(path: Path) -> None:
    """Raise unless the path is a regular file."""
    name = readable(path)
    try:
        kind = path.stat().st_mode
    except PermissionError:
        raise StgraphError(f"{name} may not be read by this user; change its permissions") from None
    except (OSError, ValueError):  # also a name that is too long, or with a zero byte
        if _ADDRESS.match(str(path)):
            raise StgraphError(f"{name} is an address; stgraph reads files: download the video first") from None
        raise StgraphError(f"no such file: {name}") from None
    if stat.S_ISDIR(kind):
        raise StgraphError(f"{name} is a folder; give the path of one video file")
    if not stat.S_ISREG(kind):
        raise StgraphError(f"{name} is a pipe or a device, which cannot be read twice; save the video as a file first")


@cache
def _formats() -> str:
    """Names of all formats that may be opened, as FFmpeg takes them."""
    import av

    return ",".join(sorted(name for name in av.formats_available if not _REFUSED & set(name.split(","))))


def _unopened(path: Path) -> str | None:
    """Why a file was not opened, where its first bytes tell."""
    name = readable(path)
    with path.open("rb") as file:
        start = file.read(256)
    if _PLAYLISTS.match(start):
        return f"{name} is a playlist, which names other files; give the video file itself"
    return None


def _is_animated_webp(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(21)
    return start[8:16] == b"WEBPVP8X" and bool(start[20] & 2)
