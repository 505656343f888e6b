"""The index of a batch: a row for each clip, kept between runs, so that finished clips are skipped."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
from pathlib import Path

from ..errors import StgraphError, readable
from .manifest import MARK, is_complete
from .many import Outcome

INDEX = "index.csv"

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a formula of a spreadsheet begins with."""

_COLUMNS = ("clip", "state", "frames", "tokens", "kept", "digest", "read", "encode", "select", "error")


def file_state(path: Path) -> dict[str, int]:
    """Size and times of a file. They show most changes without reading it."""
    state = path.stat()
    return {"bytes": state.st_size, "modified_ns": state.st_mtime_ns, "changed_ns": state.st_ctime_ns}


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def row_of(name: str, outcome: Outcome) -> dict[str, object]:
    """The row of a clip that has just been compressed, or has failed."""
    row: dict[str, object] = {"clip": readable(name), "state": "failed", "error": outcome.error or ""}
    if outcome.selection is not None:
        row |= {
            "state": "done",
            "frames": outcome.frames,
            "tokens": len(outcome.selection.verdict),
            "kept": len(outcome.selection),
            "digest": outcome.selection.digest,
        }
    return row | {stage: f"{seconds:.4f}" for stage, seconds in outcome.seconds.items()}


def finished_row(name: str, folder: Path, path: Path) -> dict[str, object] | None:
    """The row of a clip that an earlier run has finished, or None.

    Its results must all be there as they were written. The video must be the file that it was, by size and times, or
    else by the digest of its bytes.
    """
    try:
        record = json.loads((folder / MARK).read_text("utf-8"))
        seconds = {stage: f"{value:.4f}" for stage, value in record["stages"].items()}
        video, now = record["video"], file_state(path)
        figures = {key: record[key] for key in ("tokens", "kept", "digest")}
        same = all(video[key] == value for key, value in now.items())
        same = same or (video["bytes"] == now["bytes"] and video["sha256"] == sha256_of(path))
        if not same or not is_complete(folder):
            return None
        return {"clip": readable(name), "state": "done", "frames": video["frames"], **figures, **seconds}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets a ``'``."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        return bool(float(text)) or True
    except ValueError:
        return False


def write_index(folder: Path, rows: list[dict[str, object]]) -> None:
    """Replace ``index.csv`` of a folder by these rows.

    Raises:
        StgraphError: the file cannot be written.
    """
    partial = folder / f".{INDEX}.part"
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, restval="")
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
        partial.replace(folder / INDEX)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StgraphError(f"{folder / INDEX} cannot be written: {error.strerror or error}") from error
