"""Many videos: the next are read while one is encoded and selected; one that fails does not stop the rest."""

from __future__ import annotations

import csv
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StgraphError, check_number
from .config import Config, load_config, resolve
from .output import MARK, output_folder

if TYPE_CHECKING:
    from ..selectors.selection import Selection
    from ..tokens import VideoTokens
    from ..video import Video

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv", ".3gp")
"""What counts as a video when a folder is searched; a file that is named is tried whatever it is called."""

INDEX = "index.csv"

_COLUMNS = ("clip", "state", "frames", "tokens", "kept", "digest", "read", "encode", "select", "error")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one video of many.

    Attributes:
        path: the file.
        tokens: its N tokens, or None where it failed.
        selection: the kept ones, or None where it failed.
        frames: how many frames were sampled.
        notes: what reader and selector said that a user should know.
        seconds: time of each stage: ``read``, ``encode``, ``select``.
        error: the sentence that says why it failed, or None.
    """

    path: Path
    tokens: VideoTokens | None = None
    selection: Selection | None = None
    frames: int = 0
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def compress_many(
    paths: Iterable[str | Path],
    config: Config | None = None,
    *,
    workers: int = 1,
    ahead: int = 2,
    allow_corrupt: bool = False,
) -> Iterator[Outcome]:
    """Select the tokens of many videos, in their order.

    Threads read the next videos while the caller's thread encodes and selects: decoding leaves the interpreter free,
    and an encoder is only ever used by one thread. Memory is that of ``ahead`` + 1 videos, however many there are. The
    results are those of one video after the other.

    Args:
        paths: video files; taken as they are needed, so they may be endless.
        config: the defaults when not given.
        workers: threads that read, ≥ 1. FFmpeg decodes with threads of its own, so one is enough on few cores.
        ahead: videos that are read, or being read, before they are needed; ≥ 0, 0 reads each when its turn comes.
        allow_corrupt: use what can be decoded of damaged files.

    Returns:
        One outcome for each path. A video that cannot be read, encoded or selected has its ``error`` set.
    """
    check_number("workers", workers, at_least=1, integer=True)
    check_number("ahead", ahead, at_least=0, integer=True)
    return _compress_many(paths, config or resolve(), workers, ahead, allow_corrupt)


def _compress_many(
    paths: Iterable[str | Path], config: Config, workers: int, ahead: int, allow_corrupt: bool
) -> Iterator[Outcome]:
    from ..video import read_video

    encoder, selector = config.encoder(), config.selector()
    remaining = iter(paths)

    def read(path: Path) -> tuple[Video, float]:
        start = time.perf_counter()
        return read_video(path, **config.video, allow_corrupt=allow_corrupt), time.perf_counter() - start

    def finish(path: Path, reading: Future[tuple[Video, float]]) -> Outcome:
        seconds: dict[str, float] = {}
        try:
            video, seconds["read"] = reading.result()
            start = time.perf_counter()
            tokens, signals = encoder(video)
            encoded = time.perf_counter()
            selection = selector(tokens, signals)
            seconds |= {"encode": encoded - start, "select": time.perf_counter() - encoded}
        except (StgraphError, OSError, MemoryError) as error:
            return Outcome(path, seconds=seconds, error=str(error) or type(error).__name__)
        return Outcome(path, tokens, selection, len(video), (*video.notes, *selection.notes), seconds)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="stgraph-read")
    waiting: deque[tuple[Path, Future[tuple[Video, float]]]] = deque()

    def fill(count: int) -> None:
        for path in map(Path, islice(remaining, max(count - len(waiting), 0))):
            waiting.append((path, pool.submit(read, path)))

    try:
        while True:
            fill(1)
            if not waiting:
                return
            path, reading = waiting.popleft()
            fill(ahead)
            outcome = finish(path, reading)
            del reading  # and with it the frames
            yield outcome
    finally:
        pool.shutdown(cancel_futures=True)


# -- a folder of results ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """What a batch did.

    Attributes:
        done: clips that were compressed.
        skipped: clips that an earlier run had finished.
        failed: the sentence for every clip that failed.
        seconds: from the first to the last clip.
    """

    done: int
    skipped: int
    failed: dict[str, str]
    seconds: float

    def summary(self) -> str:
        """The figures in a sentence."""
        parts = [f"{self.done} compressed"]
        if self.skipped:
            parts.append(f"{self.skipped} finished before and skipped")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        rate = f" ({self.done / self.seconds:.2f} clips per second)" if self.done else ""
        return f"{self.done + self.skipped + len(self.failed)} clips: {', '.join(parts)}{rate}"


def find_videos(sources: Sequence[str | Path]) -> dict[str, Path]:
    """The videos of files and folders by the name that their results will have, folders searched in depth; those that
    lie beside a selection are its own.

    A name is the path from the folder that was given, or the file's own name.

    Raises:
        StgraphError: no such file, a folder without videos, or two of the same name.
    """
    found: dict[str, Path] = {}
    for source in map(Path, sources):
        if source.is_dir():
            inside = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
            inside = [path for path in inside if not (path.parent / MARK).exists()]  # pictures of earlier results
            if not inside:
                raise StgraphError(f"folder {source} holds no videos; looked for {', '.join(SUFFIXES)}")
            named = {path.relative_to(source).as_posix(): path for path in inside}
        elif source.is_file():
            named = {source.name: source}
        else:
            raise StgraphError(f"no such file or folder: {source}")
        for name, path in named.items():
            if name in found:
                raise StgraphError(f"{found[name]} and {path} would both be called {name}; give a folder above both")
            found[name] = path
    return found


def compress_folder(
    sources: Sequence[str | Path],
    output: str | Path,
    config: Config | None = None,
    *,
    workers: int = 1,
    ahead: int = 2,
    allow_corrupt: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Batch:
    """Compress many videos, each into a folder of its own below ``output``.

    Every clip gets ``selection.safetensors`` and ``selection.json``; ``index.csv`` has a row for each, and
    ``config.yaml`` the settings. A clip's folder appears when it is complete, so the same call after an interruption
    goes on where it ended: finished clips are skipped, failed ones tried again.

    Args:
        sources: files and folders, see :func:`find_videos`.
        output: folder of the results; may hold an earlier run with the same settings.
        config: the defaults when not given.
        workers: see :func:`compress_many`.
        ahead: see :func:`compress_many`.
        allow_corrupt: see :func:`compress_many`.
        progress: called with (clips done, clips in all).

    Raises:
        StgraphError: sources that do not exist, or an output folder that cannot be used or holds results with other
            settings.
    """
    check_number("workers", workers, at_least=1, integer=True)
    check_number("ahead", ahead, at_least=0, integer=True)
    config = config or resolve()
    videos = find_videos(sources)
    folder = _prepared(Path(output), config)
    rows = {name: row for name in videos if (row := _finished(name, folder / name)) is not None}
    skipped, failed, done = len(rows), {}, 0
    start = time.perf_counter()
    todo = [name for name in videos if name not in rows]
    if progress:
        progress(skipped, len(videos))
    outcomes = compress_many(
        (videos[name] for name in todo), config, workers=workers, ahead=ahead, allow_corrupt=allow_corrupt
    )
    try:
        for name, outcome in zip(todo, outcomes, strict=True):
            if outcome.error is None:
                _save(outcome, folder / name, config)
                done += 1
            else:
                failed[name] = outcome.error
            rows[name] = _row(name, outcome)
            if progress:
                progress(len(rows), len(videos))
    finally:
        _write_index(folder, [rows[name] for name in videos if name in rows])
    return Batch(done, skipped, failed, time.perf_counter() - start)


def _prepared(output: Path, config: Config) -> Path:
    """The output folder, with the settings in it; those of a batch in which nothing went well count no more."""
    settings = output / "config.yaml"
    if output.is_dir() and any(output.iterdir()):
        if not settings.is_file():
            raise StgraphError(f"output folder {output} holds files that are not a batch; choose another --output")
        if resolve([], load_config(settings)).data == config.data:
            return output
        if not (output / INDEX).is_file() or any(output.rglob(MARK)):
            raise StgraphError(f"output folder {output} holds results with other settings; choose another --output")
    try:
        output.mkdir(parents=True, exist_ok=True)
        settings.write_text(config.to_yaml(), "utf-8")
    except OSError as error:
        raise StgraphError(f"output folder {output} cannot be written: {error.strerror or error}") from error
    return output


def _save(outcome: Outcome, folder: Path, config: Config) -> None:
    if outcome.selection is None or outcome.tokens is None:
        return
    times = outcome.tokens.timestamps
    extra = {
        "video": {
            "file": outcome.path.name,
            "frames": outcome.frames,
            "timestamps": times[0].tolist() if times else None,
        },
        "grids": [list(grid) for grid in outcome.tokens.grids],
        "config": config.data,
        "notes": list(outcome.notes),
        "stages": outcome.seconds,
    }
    with output_folder(folder, overwrite=True) as new:
        outcome.selection.save(new, extra)


def _row(name: str, outcome: Outcome) -> dict[str, object]:
    row: dict[str, object] = {"clip": name, "state": "failed", "error": outcome.error or ""}
    if outcome.selection is not None:
        row |= {
            "state": "done",
            "frames": outcome.frames,
            "tokens": len(outcome.selection.verdict),
            "kept": len(outcome.selection),
            "digest": outcome.selection.digest,
        }
    return row | {stage: f"{seconds:.4f}" for stage, seconds in outcome.seconds.items()}


def _finished(name: str, folder: Path) -> dict[str, object] | None:
    """The row of a clip that an earlier run has finished, or None."""
    try:
        record = json.loads((folder / MARK).read_text("utf-8"))
        seconds = {stage: f"{value:.4f}" for stage, value in record["stages"].items()}
        frames = record["video"]["frames"]
        figures = {key: record[key] for key in ("tokens", "kept", "digest")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {"clip": name, "state": "done", "frames": frames, **figures, **seconds}


def _write_index(folder: Path, rows: list[dict[str, object]]) -> None:
    partial = folder / f".{INDEX}.part"
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(folder / INDEX)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StgraphError(f"{folder / INDEX} cannot be written: {error.strerror or error}") from error
