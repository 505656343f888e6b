"""Output folders: whole or not there, never in the place of something that a run of ours did not write.

A run writes into a hidden folder beside its output (``.stgraph-….partial``), which takes the output's name at the end.
Every output holds ``manifest.json``: the files of the run with their sizes and SHA-256. Only a folder in which nothing
else lies is ever replaced.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import StgraphError, readable
from .manifest import MANIFEST, check_unchanged, delete_listed, write_manifest

_PARTIAL = ".stgraph-*.partial"
_YOUNG = 10.0
"""Seconds in which a partial folder may still be without the lock of its run."""

_NAME_BYTES = 200
"""Length of an output's name that is taken from a video, so that a number and a prefix fit beside it."""


@dataclass(frozen=True)
class Output:
    """Where a run writes.

    Attributes:
        folder: to write into, until the block ends.
        path: the name that the folder has afterwards.
    """

    folder: Path
    path: Path


def default_output(video: str | Path, prefix: str = "") -> Path:
    """``outputs/<prefix><name of the video>``, a folder inside ``outputs`` whatever the video is called."""
    stem = Path(video).stem.strip(". ") or "clip"
    return Path("outputs") / (prefix + os.fsdecode(os.fsencode(stem)[:_NAME_BYTES]))


@contextmanager
def output_folder(path: str | Path, *, overwrite: bool = False, aside: bool = False) -> Iterator[Path]:
    """The folder to write into of :func:`new_output`."""
    with new_output(path, overwrite=overwrite, aside=aside) as output:
        yield output.folder


@contextmanager
def new_output(
    path: str | Path, *, overwrite: bool = False, numbered: bool = False, aside: bool = False
) -> Iterator[Output]:
    """A new folder that is renamed to ``path`` only when the block ends without an error; otherwise it is deleted.

    Folders that killed runs left beside it are deleted first. Where the path is a symbolic link, the
    folder that it leads to is written and the link stays.

    Args:
        path: the folder to be; its parents are made.
        overwrite: replace the output of another run. Anything else is never deleted.
        numbered: where the path is taken, use the first free one of ``path-2``, ``path-3``, ...
        aside: where the path is taken by anything but an output as it was written, rename that to the first free one
            of ``path-2``, ``path-3``, ... instead of refusing.

    Raises:
        StgraphError: the path is taken, too long, cannot be written to, or the disk is full. If the path is taken while
            the block runs, the new folder is kept under the next free number, and the error says so.
    """
    given = Path(path)
    path = _real(given)
    if not (numbered or aside):
        check_output(path, overwrite=overwrite)
    with _sentences(given):
        made = _make_parents(path.parent)
        try:
            _clear_left_over(path.parent)
            with _workplace(path.parent) as temporary:
                if numbered:
                    path = _claim(path, temporary)
                output = Output(temporary / "new" / path.name, path)
                output.folder.mkdir(parents=True)
                try:
                    yield output
                except StgraphError as error:  # an error that names the temporary folder
                    raise StgraphError(str(error).replace(str(output.folder), str(path))) from error
                write_manifest(output.folder)
                _publish(output, temporary, overwrite=overwrite, aside=aside)
        except BaseException:
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # only if nothing is in it
            raise


def check_output(path: str | Path, *, overwrite: bool = False, numbered: bool = False) -> None:
    """Raise :class:`StgraphError` where :func:`new_output` would refuse ``path``, before any work is done."""
    path = _real(Path(path))
    with _sentences(path):
        if numbered:
            pass
        elif path.is_dir() and any(path.iterdir()):
            check_unchanged(path)
            if not overwrite:
                raise StgraphError(
                    f"output folder {readable(path)} already holds a run; choose another --output or add --overwrite"
                )
        elif (path.exists() or path.is_symlink()) and not path.is_dir():
            raise StgraphError(f"output {readable(path)} is a file; --output must be a folder")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path / MANIFEST)  # tells a name that is too long
        above = next(parent for parent in path.absolute().parents if parent.exists())
        if not above.is_dir():
            raise StgraphError(f"output folder {readable(path)} cannot be made: {readable(above)} is not a folder")
        Path(tempfile.mkdtemp(prefix=".stgraph-", suffix=".test", dir=above)).rmdir()  # tells what cannot be written


def _real(path: Path) -> Path:
    """The folder that a path means: a link's target, and a name in the place of dots."""
    if "\0" in str(path):
        raise StgraphError("the name of an output folder cannot hold a zero byte; choose another --output")
    link = os.path.islink(path)  # noqa: PTH114 - unlike Path's, it takes names that are too long
    path = Path(os.path.realpath(path)) if link or path.name in ("", "..") else path
    here = Path(os.path.realpath("."))
    if Path(os.path.realpath(path)) in (here, *here.parents):
        raise StgraphError(
            f"output {readable(path)} is the current folder or holds it; name a folder inside it with --output"
        )
    return path


# -- from the partial folder to the output ----------------------------------------------------------------------------


def _publish(output: Output, temporary: Path, *, overwrite: bool, aside: bool) -> None:
    """Rename the new folder to its final name. A folder that another process has made there since is not replaced."""
    path = output.path
    taken = path.is_dir() and any(path.iterdir())
    if taken and aside:
        try:
            check_unchanged(path)
        except StgraphError:
            _settle(path, path)
            taken = False
    if not (taken and overwrite):
        try:
            output.folder.rename(path)  # this fails where there is anything but an empty folder
            return
        except OSError as error:
            if not (path.exists() or path.is_symlink()):
                raise
            kept = _settle(output.folder, path)
            raise StgraphError(
                f"{readable(path)} was made by another process during this run; the results of this run are in "
                f"{readable(kept)}"
            ) from error
    check_unchanged(path)
    old = temporary / "old" / path.name
    old.parent.mkdir()
    try:
        path.rename(old)
        output.folder.rename(path)
    except BaseException:
        if old.exists() and output.folder.exists():
            _settle(old, path, first=True)
        raise
    _discard(old, path)


def _discard(old: Path, path: Path) -> None:
    """Delete an output that was replaced; files that were added to it meanwhile are kept."""
    if not delete_listed(old):
        kept = _settle(old, path)
        raise StgraphError(
            f"the new results are in {readable(path)}; files that stgraph did not write are in {readable(kept)}"
        )


def _settle(folder: Path, path: Path, *, first: bool = False) -> Path:
    """Rename a folder to the first free of ``path-2``, ``path-3``, ... (``first``: or to ``path`` itself)."""
    for name in _numbers(path) if first else itertools.islice(_numbers(path), 1, None):
        if not (name.exists() or name.is_symlink()):
            try:
                folder.rename(name)
                return name
            except OSError as error:  # taken at this very moment
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
    raise AssertionError  # the numbers do not end


def _numbers(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}")


def _claim(path: Path, temporary: Path) -> Path:
    """Create the first free one of the numbered folders, which reserves the name."""
    for name in _numbers(path):
        try:
            (temporary / "claimed").write_bytes(os.fsencode(name.name))
            name.mkdir()
            return name
        except FileExistsError:
            continue
    raise AssertionError  # the numbers do not end


def _make_parents(folder: Path) -> list[Path]:
    """Make a folder with its parents; those that were made, the innermost first."""
    made = list(itertools.takewhile(lambda parent: not parent.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    return made


# -- partial folders --------------------------------------------------------------------------------------------------


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A hidden folder that is locked until this run ends."""
    temporary = Path(tempfile.mkdtemp(prefix=".stgraph-", suffix=".partial", dir=parent))
    lock = _lock(temporary)
    try:
        yield temporary
    finally:
        _clear(temporary)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A lock that the operating system releases when the process ends; None where another process has it."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _clear_left_over(parent: Path) -> None:
    """Delete the partial folders of runs that were killed."""
    for folder in parent.glob(_PARTIAL):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or time.time() - folder.stat().st_mtime < _YOUNG:
                continue
            lock = _lock(folder)
            if lock is not None:
                _clear(folder)
                os.close(lock)


def _clear(temporary: Path) -> None:
    """Delete a partial folder. An output that its run had moved away is moved back, or kept under another name."""
    parent = temporary.parent
    with contextlib.suppress(OSError):
        for old in (temporary / "old").glob("*"):
            replaced = (parent / old.name).exists()
            if not (replaced and delete_listed(old)):
                _settle(old, parent / old.name, first=True)
        claimed = temporary / "claimed"
        if claimed.exists():
            (parent / os.fsdecode(claimed.read_bytes())).rmdir()  # unless results are in it
    shutil.rmtree(temporary, ignore_errors=True)


# -- words ------------------------------------------------------------------------------------------------------------


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """What the system says about an output, in one sentence."""
    try:
        yield
    except OSError as error:
        raise StgraphError(_reason(path, error)) from error


def _reason(path: Path, error: OSError) -> str:
    name = readable(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full, so nothing was written to {name}; free some space or choose another --output"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"output folder {name} is not writable; choose another --output"
    if error.errno == errno.ENAMETOOLONG:
        return f"the name of output folder {name[:60]}… is too long for this disk; choose another --output"
    return f"output folder {name} cannot be written: {error.strerror or error}"
