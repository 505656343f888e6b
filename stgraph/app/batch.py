"""Many videos: the next are read while one is encoded and selected; one that fails does not stop the rest."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import json
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StgraphError, check_number, readable
from .config import Config, load_config, resolve
from .output import MARK, is_complete, output_folder

if TYPE_CHECKING:
    from ..selectors.selection import Selection
    from ..tokens import VideoTokens
    from ..video import Video
    from .cluster import Resources

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
"""What counts as a video when a folder is searched; a file that is named is tried whatever it is called."""

INDEX = "index.csv"

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a formula of a spreadsheet begins with."""

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
        video = read_video(path, **config.video, largest=encoder.largest, allow_corrupt=allow_corrupt)
        return video, time.perf_counter() - start

    def finish(path: Path, reading: Future[tuple[Video, float]]) -> Outcome:
        seconds: dict[str, float] = {}
        try:
            video, seconds["read"] = reading.result()
            start = time.perf_counter()
            tokens, signals = encoder(video)
            encoded = time.perf_counter()
            selection = selector(tokens, signals)
            seconds |= {"encode": encoded - start, "select": time.perf_counter() - encoded}
        except StgraphError as error:
            return Outcome(path, seconds=seconds, error=str(error))
        except Exception as error:  # one clip must not cost the others; the place is for whoever looks for the mistake
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(str(error).split())
            reason = f"{type(error).__name__}{': ' if said else ''}{said} ({Path(place.filename).name}:{place.lineno})"
            return Outcome(path, seconds=seconds, error=reason)
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
        notes: sentences that a user should know.
    """

    done: int
    skipped: int
    failed: dict[str, str]
    seconds: float
    notes: tuple[str, ...] = ()

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
    for source in sources:
        if not str(source):
            raise StgraphError("a video or folder has an empty name; check the words of the command")
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


def _passed_over(sources: Sequence[str | Path]) -> tuple[str, ...]:
    """A sentence about the files of searched folders that do not look like videos, or none."""
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


def compress_folder(
    sources: Sequence[str | Path],
    output: str | Path,
    config: Config | None = None,
    *,
    workers: int = 1,
    ahead: int = 2,
    allow_corrupt: bool = False,
    progress: Callable[[int, int], object] | None = None,
    resources: Resources | None = None,
) -> Batch:
    """Compress many videos, each into a folder of its own below ``output``.

    Every clip gets ``selection.safetensors`` and ``selection.json``; ``index.csv`` has a row for each, and
    ``config.yaml`` the settings. A clip's folder appears when it is complete, so the same call after an interruption
    goes on where it ended: finished clips are skipped, failed ones tried again. A clip is finished where its results
    are as they were written, and the video is the same file (size and times) or holds the same bytes.

    Args:
        sources: files and folders, see :func:`find_videos`.
        output: folder of the results; may hold an earlier run with the same settings.
        config: the defaults when not given.
        workers: see :func:`compress_many`.
        ahead: see :func:`compress_many`.
        allow_corrupt: see :func:`compress_many`.
        progress: called with (clips done, clips in all).
        resources: where it runs: this process if not given, else perhaps ``workers`` workers of a Ray cluster.

    Raises:
        StgraphError: sources that do not exist, or an output folder that cannot be used or holds results with other
            settings.
    """
    check_number("workers", workers, at_least=1, integer=True)
    check_number("ahead", ahead, at_least=0, integer=True)
    config = config or resolve()
    videos = find_videos(sources)
    folder = _prepared(Path(output), config)
    rows = {name: row for name, path in videos.items() if (row := _finished(name, folder / name, path)) is not None}
    skipped, failed, done = len(rows), {}, 0
    start = time.perf_counter()
    todo = [name for name in videos if name not in rows]
    if progress:
        progress(skipped, len(videos))
    paths = [videos[name] for name in todo]
    outcomes: Iterator[tuple[int, Outcome]]
    if resources is not None and resources.engine == "ray":
        from .cluster import compress_on_ray

        outcomes = compress_on_ray(paths, config, resources, workers=workers, allow_corrupt=allow_corrupt)
    else:
        outcomes = enumerate(compress_many(paths, config, workers=workers, ahead=ahead, allow_corrupt=allow_corrupt))
    try:
        for place, outcome in outcomes:
            name = todo[place]
            if outcome.error is None:
                outcome = _saved(outcome, folder / name, config)
            if outcome.error is None:
                done += 1
            else:
                failed[name] = outcome.error
            rows[name] = _row(name, outcome)
            if progress:
                progress(len(rows), len(videos))
    finally:
        _write_index(folder, [rows[name] for name in videos if name in rows])
    return Batch(done, skipped, failed, time.perf_counter() - start, _passed_over(sources))


def _prepared(output: Path, config: Config) -> Path:
    """The output folder, with the settings in it; those of a batch in which nothing went well count no more."""
    settings, name = output / "config.yaml", readable(output)
    if output.is_dir() and any(output.iterdir()):
        if not settings.is_file():
            raise StgraphError(f"output folder {name} holds files that are not a batch; choose another --output")
        if _same(load_config(settings), config):
            return output
        if not (output / INDEX).is_file() or any(output.rglob(MARK)):
            raise StgraphError(f"output folder {name} holds results with other settings; choose another --output")
    try:
        output.mkdir(parents=True, exist_ok=True)
        settings.write_text(config.to_yaml(), "utf-8")
    except OSError as error:
        raise StgraphError(f"output folder {name} cannot be written: {error.strerror or error}") from error
    return output


def _same(stored: Mapping[str, Any], config: Config) -> bool:
    """Whether stored settings are those of a configuration, without running code that they name."""
    import yaml

    return stored == yaml.safe_load(config.to_yaml()) or resolve([], stored).data == config.data


def _saved(outcome: Outcome, folder: Path, config: Config) -> Outcome:
    """The outcome, after it was written; one that cannot be written has failed."""
    try:
        _save(outcome, folder, config)
    except StgraphError as error:
        if "disk is full" in str(error):
            raise
        return dataclasses.replace(outcome, tokens=None, selection=None, error=str(error))
    return outcome


def _save(outcome: Outcome, folder: Path, config: Config) -> None:
    if outcome.selection is None or outcome.tokens is None:
        return
    times = outcome.tokens.timestamps
    extra = {
        "video": {
            "file": readable(outcome.path.name),
            **_state(outcome.path),
            "sha256": _sha256(outcome.path),
            "frames": outcome.frames,
            "timestamps": times[0].tolist() if times else None,
        },
        "grids": [list(grid) for grid in outcome.tokens.grids],
        "config": config.data,
        "notes": list(outcome.notes),
        "stages": outcome.seconds,
    }
    with output_folder(folder, overwrite=True, aside=True) as new:
        outcome.selection.save(new, extra)


def _state(path: Path) -> dict[str, int]:
    """What tells most changes of a file without reading it."""
    state = path.stat()
    return {"bytes": state.st_size, "modified_ns": state.st_mtime_ns, "changed_ns": state.st_ctime_ns}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _row(name: str, outcome: Outcome) -> dict[str, object]:
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


def _finished(name: str, folder: Path, path: Path) -> dict[str, object] | None:
    """The row of a clip that an earlier run has finished, or None.

    Its results must all be there as they were written. The video must be the file that it was, by size and times, or
    else by the digest of its bytes.
    """
    try:
        record = json.loads((folder / MARK).read_text("utf-8"))
        seconds = {stage: f"{value:.4f}" for stage, value in record["stages"].items()}
        video, now = record["video"], _state(path)
        figures = {key: record[key] for key in ("tokens", "kept", "digest")}
        same = all(video[key] == value for key, value in now.items())
        same = same or (video["bytes"] == now["bytes"] and video["sha256"] == _sha256(path))
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


def _write_index(folder: Path, rows: list[dict[str, object]]) -> None:
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
