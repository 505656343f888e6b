"""Many videos: the next are read while one is encoded and selected; one that fails does not stop the rest."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StgraphError, check_number
from .config import Config, resolve

if TYPE_CHECKING:
    from ..selectors.selection import Selection
    from ..tokens import VideoTokens
    from ..video import Video


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
        except Exception as error:  # the other clips continue; the place helps to find the mistake
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
