"""A batch: a folder of results for many videos. After an interruption the same command continues it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StgraphError, check_number, readable
from .batch_index import INDEX, file_state, finished_row, row_of, sha256_of, write_index
from .cluster import Resources, compress_on_ray
from .config import Config, resolve
from .config_file import load_config
from .find import find_videos, passed_over
from .manifest import MARK
from .many import Outcome, compress_many
from .output import output_folder


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
    continues where the first one ended: finished clips are skipped, failed ones tried again.
    A clip is finished where its results are as they were written, and the video is the same file (size and times) or
    holds the same bytes.

    Args:
        sources: files and folders, see :func:`~stgraph.app.find.find_videos`.
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
    rows = {name: row for name, path in videos.items() if (row := finished_row(name, folder / name, path)) is not None}
    skipped, failed, done = len(rows), {}, 0
    start = time.perf_counter()
    todo = [name for name in videos if name not in rows]
    if progress:
        progress(skipped, len(videos))
    paths = [videos[name] for name in todo]
    outcomes: Iterator[tuple[int, Outcome]]
    if resources is not None and resources.engine == "ray":
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
            rows[name] = row_of(name, outcome)
            if progress:
                progress(len(rows), len(videos))
    finally:
        write_index(folder, [rows[name] for name in videos if name in rows])
    return Batch(done, skipped, failed, time.perf_counter() - start, passed_over(sources))


def _prepared(output: Path, config: Config) -> Path:
    """The output folder with the settings written into it.

    Settings of a batch without any finished clip are replaced.
    """
    settings, name = output / "config.yaml", readable(output)
    if output.is_dir() and any(output.iterdir()):
        if not settings.is_file():
            raise StgraphError(
                f"output folder {name} holds files, but not the results of a batch; choose another --output"
            )
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
    """Write an outcome and return it; if it cannot be written, return it as failed."""
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
            **file_state(outcome.path),
            "sha256": sha256_of(outcome.path),
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
