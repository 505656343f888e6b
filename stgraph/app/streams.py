"""What the command line prints never costs the work that was done: its streams take everything, and are checked at the
end.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from ..errors import StgraphError


class _Kept(io.RawIOBase):
    """A file descriptor that keeps its first error instead of raising it. Later output is discarded."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, data: Any) -> int:
        while self.error is None:
            try:
                return os.write(self.descriptor, data)
            except BlockingIOError:
                select.select([], [self.descriptor], [])
            except OSError as error:
                self.error = error
        return len(data)


def run(command: Callable[[], object]) -> NoReturn:
    """Run the command line and end the process.

    - Bad input ends with one sentence and exit code 2, Ctrl-C with one and 130.
    - A stream that was closed before the start is as if it led nowhere.
    - A character that the encoding of a stream lacks is written as an escape.
    - A reader that goes away (``| head``) ends the printing, not the work.
    - A stream that cannot be written (a full disk) is told of on standard error when the work is done: exit code 1.
    """
    _open_closed()
    out, err = _keep("stdout", 1), _keep("stderr", 2)
    code = _run(command)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    for kept, name in ((out, "standard output"), (err, "standard error")):
        if kept is not None and kept.error is not None and kept.error.errno != errno.EPIPE:
            _say(f"error: the {name} cannot be written ({kept.error.strerror}); what was to be printed is lost")
            code = code or 1
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    sys.exit(code)


def _run(command: Callable[[], object]) -> int:
    try:
        command()
    except StgraphError as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted; what was not finished was not written")
        return 130
    except SystemExit as end:  # typer ends with this exception, also after Ctrl-C, where it prints nothing
        if end.code == 130:
            _say("interrupted; what was not finished was not written")
        if isinstance(end.code, str):
            _say(end.code)
            return 1
        return end.code or 0
    return 0


def _say(sentence: str) -> None:
    with suppress(OSError, ValueError):
        print(sentence, file=sys.stderr, flush=True)


def _open_closed() -> None:
    """Where a standard stream was closed, the next file to be opened would take its place and get what is printed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one


def _keep(name: str, descriptor: int) -> _Kept | None:
    """Put a stream that keeps its errors in the place of a standard one; None where that is no file descriptor."""
    stream: TextIO | None = getattr(sys, name)
    try:
        if stream is not None and stream.fileno() != descriptor:
            return None
    except (OSError, ValueError):
        return None
    if stream is not None:
        with suppress(OSError, ValueError):
            stream.flush()
    raw = _Kept(descriptor)
    text = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=name == "stderr" or raw.isatty(),
        write_through=name == "stderr",
    )
    setattr(sys, name, text)
    return raw
