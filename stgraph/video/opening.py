"""Opening a video file, and what is done about damage in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StgraphError

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer


class Damage:
    """What is broken in a file: the first finding is an error, or with ``allowed`` all become one note."""

    def __init__(self, path: Path, allowed: bool) -> None:
        self.path, self.allowed = path, allowed
        self.findings: dict[str, None] = {}

    def found(self, what: str) -> None:
        """Raise on a damage that is not allowed; note it otherwise."""
        if not self.allowed:
            raise StgraphError(
                f"{self.path} is truncated or corrupt: {what}; allow_corrupt=True (--allow-corrupt) uses "
                "what can be decoded"
            )
        self.findings[what] = None

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence that names the first finding and counts the others; none without findings."""
        if not self.findings:
            return ()
        more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
        return (f"the file is truncated or corrupt: {next(iter(self.findings))}{more}; what could be decoded was used",)


@contextmanager
def open_stream(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
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
