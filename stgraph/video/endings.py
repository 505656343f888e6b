"""Whether a file was cut off, for formats that FFmpeg reads to a premature end without a word."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"


def cut_off(path: Path, container: str) -> str | None:
    """What shows that the file is not whole, or None.

    Args:
        path: the file.
        container: FFmpeg's name of its format. GIF must end with its trailer, and in Matroska and WebM no element may
            reach beyond the end of the file.
    """
    with path.open("rb") as file:
        if container == "gif":
            return None if _gif_is_whole(file) else "it ends without the trailer of a GIF"
        if container == "matroska,webm":
            beyond = _matroska_end(file) - path.stat().st_size
            return f"its last {beyond} bytes are missing" if beyond > 0 else None
    return None


def _gif_is_whole(file: BinaryIO) -> bool:
    """Whether the blocks of a GIF lead to its trailer (GIF89a, Appendix A)."""
    header = file.read(13)
    if len(header) < 13:
        return False
    file.seek(_palette(header[10]), 1)
    while kind := file.read(1):
        if kind == b";":
            return True
        if kind == b"!":
            file.seek(1, 1)
        elif kind == b",":
            descriptor = file.read(9)
            if len(descriptor) < 9:
                return False
            file.seek(_palette(descriptor[8]) + 1, 1)  # the palette of this picture, and the size of its codes
        else:
            return False
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], 1)
    return False


def _palette(flags: int) -> int:
    """Bytes of the palette that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _matroska_end(file: BinaryIO) -> int:
    """The byte at which the last element ends that the file begins (RFC 8794)."""
    end = 0
    while (name := _vint(file, keep_marker=True)) is not None:
        size = _vint(file)
        if size is None:
            return file.tell() + 1  # cut inside an element's own head
        here = file.tell()
        unknown = size[0] == (1 << 7 * size[1]) - 1
        if unknown and name[0] in (int.from_bytes(_SEGMENT), int.from_bytes(_CLUSTER)):
            continue  # of a live recording: its elements follow one by one
        end = here + size[0]
        if unknown or name[0] == int.from_bytes(_SEGMENT):
            return here if unknown else end
        file.seek(end)
    return end


def _vint(file: BinaryIO, *, keep_marker: bool = False) -> tuple[int, int] | None:
    """A number of variable length and its bytes; None where the file ends, or where there is none."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest)
    return (value if keep_marker else value & (1 << 7 * length) - 1), length
