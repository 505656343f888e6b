"""The manifest of an output folder: which files a run wrote, and whether they are unchanged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import StgraphError, readable

MANIFEST = "manifest.json"
"""The file that lists what a run wrote."""

MARK = "selection.json"
"""The file that shows that a folder holds the selection of a clip."""


def is_complete(folder: Path) -> bool:
    """Whether every file of the manifest of an output exists and is unchanged; other files are ignored."""
    try:
        listed = _manifest(folder)
        return bool(listed) and not any(_changed(folder / name, entry) for name, entry in listed.items())
    except (OSError, ValueError):
        return False


def write_manifest(folder: Path) -> None:
    """Write the manifest of all files that are in a folder now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {path.relative_to(folder).as_posix(): _entry(path) for path in files}
    (folder / MANIFEST).write_text(json.dumps({"files": entries}, indent=2) + "\n", "utf-8")


def _manifest(folder: Path) -> dict[str, dict[str, object]]:
    """The files that a manifest lists; OSError or ValueError where there is none."""
    record = json.loads((folder / MANIFEST).read_text("utf-8"))
    files = record.get("files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise ValueError("no manifest")
    return files


def _entry(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _changed(path: Path, entry: object) -> bool:
    return path.is_symlink() or not path.is_file() or _entry(path) != entry


def check_unchanged(folder: Path) -> None:
    """Raise unless the folder holds only files that a run of stgraph wrote, unchanged."""
    try:
        listed = _manifest(folder)
    except (OSError, ValueError):
        raise StgraphError(
            f"output folder {readable(folder)} holds files, but no run of stgraph; choose another --output"
        ) from None
    folders = {parent.as_posix() for name in listed for parent in Path(name).parents}
    strange = []
    for path in sorted(_everything(folder)):
        name = path.relative_to(folder).as_posix()
        known = name in folders if path.is_dir() and not path.is_symlink() else name == MANIFEST
        if not known and (name not in listed or _changed(path, listed[name])):
            strange.append(("changed " if name in listed else "") + readable(name))
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise StgraphError(
            f"output folder {readable(folder)} also holds files that stgraph did not write "
            f"({', '.join(strange[:3])}{more}); move them away or choose another --output"
        )


def _everything(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))


def delete_listed(folder: Path) -> bool:
    """Delete the files that the manifest of an output lists; returns whether the folder is gone then."""
    with contextlib.suppress(OSError, ValueError):
        listed = _manifest(folder)
        for name in (*listed, MANIFEST):
            (folder / name).unlink(missing_ok=True)
        below = {parent for name in listed for parent in Path(name).parents}
        for each in sorted(below, key=lambda parent: -len(parent.parts)):
            (folder / each).rmdir()
    return not folder.exists()
