"""Finding videos: which files of the folders that a user names are videos, and what their results are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import StgraphError, readable
from .manifest import MARK

SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".qt",
    ".mkv",
    ".webm",
    ".avi",
    ".divx",
    ".mpg",
    ".mpeg",
    ".mpe",
    ".m1v",
    ".m2v",
    ".vob",
    ".ts",
    ".m2ts",
    ".mts",
    ".m2t",
    ".trp",
    ".flv",
    ".f4v",
    ".swf",
    ".wmv",
    ".asf",
    ".ogv",
    ".ogm",
    ".3gp",
    ".3g2",
    ".mxf",
    ".gxf",
    ".dv",
    ".rm",
    ".rmvb",
    ".mj2",
    ".mjpeg",
    ".mjpg",
    ".nut",
    ".ivf",
    ".y4m",
    ".h264",
    ".264",
    ".h265",
    ".265",
    ".hevc",
    ".av1",
    ".obu",
    ".gif",
    ".apng",
)
"""Endings of video files in a searched folder. A file that is named directly is opened whatever its ending."""


def find_videos(sources: Sequence[str | Path]) -> dict[str, Path]:
    """The videos of files and folders by the name that their results will have, folders searched recursively.

    Videos in a folder with a selection are results, so they are left out.
    A name is the path from the folder that was given, or the file's own name.

    Raises:
        StgraphError: no such file, a folder without videos, or two of the same name.
    """
    found: dict[str, Path] = {}
    for source in sources:
        if not str(source):
            raise StgraphError("a video or folder has an empty name; check the arguments of the command")
        named = _named(Path(source))
        for name, path in named.items():
            if name in found:
                raise StgraphError(
                    f"{readable(found[name])} and {readable(path)} would both be called {readable(name)}; give a "
                    "folder above both"
                )
            found[name] = path
    for name in found:
        above = next((str(parent) for parent in Path(name).parents if str(parent) in found), None)
        if above is not None:
            raise StgraphError(
                f"the results of {readable(found[name])} would lie inside those of {readable(found[above])}; rename "
                "one of them"
            )
    return found


def _named(source: Path) -> dict[str, Path]:
    """The videos of one file or folder by name."""
    try:
        if source.is_file():
            return {source.name: source}
        if not source.is_dir():
            raise StgraphError(f"no such file or folder: {readable(source)}")
    except (OSError, ValueError):  # a name that is too long, or with a zero byte
        raise StgraphError(f"no such file or folder: {readable(source)}") from None
    inside = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    inside = [path for path in inside if not (path.parent / MARK).exists()]  # pictures of earlier results
    if not inside:
        raise StgraphError(f"folder {readable(source)} holds no videos ({', '.join(SUFFIXES[:8])}, …)")
    return {path.relative_to(source).as_posix(): path for path in inside}


def passed_over(sources: Sequence[str | Path]) -> tuple[str, ...]:
    """A sentence about the files of searched folders that are not named like videos; none without such files."""
    kinds: Counter[str] = Counter()
    for source in map(Path, sources):
        for path in source.rglob("*") if source.is_dir() else ():
            if path.suffix.lower() not in SUFFIXES and path.is_file() and not (path.parent / MARK).exists():
                kinds[path.suffix.lower() or "no ending"] += 1
    if not kinds:
        return ()
    listed = ", ".join(
        f"{count} {readable(kind)}" for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:5]
    )
    return (f"{kinds.total()} files were passed over, since they are not named like videos: {listed}",)
