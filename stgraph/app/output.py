"""Output folders that are either whole or not there."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StgraphError

MARK = "selection.json"
"""The file that shows that a folder holds a run."""


@contextmanager
def output_folder(path: str | Path, *, overwrite: bool = False, mark: str = MARK) -> Iterator[Path]:
    """A new folder that takes its name only when the block ends well; after any error nothing of it is left.

    Args:
        path: the folder to be; its parents are made.
        overwrite: replace a folder that holds another run. Anything else is never deleted.
        mark: the file that shows that a folder holds a run.

    Raises:
        StgraphError: the path is taken, cannot be written to, or the disk is full.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, mark=mark)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise StgraphError(_reason(path, error)) from error
    try:
        folder = temporary / "new"
        folder.mkdir()
        yield folder
        if path.exists():
            path.rename(temporary / "old")
        folder.rename(path)
    except StgraphError as error:  # of a writer, about the temporary name
        raise StgraphError(str(error).replace(str(folder), str(path))) from error
    except OSError as error:
        if (temporary / "old").exists():
            (temporary / "old").rename(path)
        raise StgraphError(_reason(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_output(path: str | Path, *, overwrite: bool = False, mark: str = MARK) -> None:
    """Raise :class:`StgraphError` where :func:`output_folder` would refuse ``path``, before any work is done."""
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        if not (path / mark).is_file():
            raise StgraphError(
                f"output folder {path} holds files that are not a run of stgraph; choose another --output"
            )
        if not overwrite:
            raise StgraphError(f"output folder {path} already holds a run; choose another --output or add --overwrite")
    elif path.exists() and not path.is_dir():
        raise StgraphError(f"output {path} is a file; --output must be a folder")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise StgraphError(f"output folder {path} cannot be made: {above} is not a folder")


def _reason(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full, so nothing was written to {path}; free some space or choose another --output"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"output folder {path} is not writable; choose another --output"
    return f"output folder {path} cannot be written: {error.strerror or error}"
