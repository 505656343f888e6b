"""A video of any length: read, encoded and selected window by window, with a record that is small enough to keep."""

from __future__ import annotations

import hashlib
import json
import time
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import check_number
from ..selectors.selection import KEPT, Verdict
from ..selectors.streaming import StreamWindow, stream
from ..video import Progress, Video, read_blocks
from .config import Config
from .output import new_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..encoders.base import Encoded

RECORD = "stream.json"
"""The file with everything about a stream except its tensors."""

BINS = 600
"""Points in time of the picture, at most."""


@dataclass(eq=False)
class StreamRecord:
    """The record of a stream without its features: one byte per token and about 70 per frame.

    Attributes:
        verdict: (N,) :class:`Verdict` codes of all tokens of the stream.
        tokens_per_frame: (T,) how many of them each frame has.
        per_frame: (T, 7) tokens of each verdict, flat.
        timestamps: (T,) seconds; frame numbers where they are unknown.
        windows: how many there were.
        kept: tokens kept, separators counted.
        num_separators: how many tokens are separators, where these are no vertices.
        seconds: time of each stage.
        notes: sentences for the user.
    """

    verdict: bytearray = field(default_factory=bytearray)
    tokens_per_frame: array[int] = field(default_factory=lambda: array("i"))
    per_frame: array[int] = field(default_factory=lambda: array("i"))
    timestamps: array[float] = field(default_factory=lambda: array("d"))
    windows: int = 0
    kept: int = 0
    num_separators: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    _state: Any = field(default_factory=hashlib.sha256)

    def add(self, window: StreamWindow) -> None:
        """Add the next window of the stream."""
        selection = window.selection
        frame = (selection.coords[:, 0] - window.first_frame).cpu()
        verdict = selection.verdict.cpu()
        frames = window.grid.frames
        counts = torch.bincount(frame * len(Verdict) + verdict, minlength=frames * len(Verdict))
        self.verdict += verdict.numpy().tobytes()
        self.per_frame.extend(counts.tolist())
        self.tokens_per_frame.extend(counts.view(frames, -1).sum(1).tolist())
        known = window.timestamps
        self.timestamps.extend(
            range(window.first_frame, window.first_frame + frames) if known is None else known.tolist()
        )
        self.windows += 1
        self.kept += len(selection)
        self.num_separators += window.num_separators
        self.seconds["select"] = self.seconds.get("select", 0.0) + selection.seconds["selection"]
        self.notes.update(dict.fromkeys(selection.notes))
        self._state.update(selection.digest.encode())

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.tokens_per_frame)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that are equal exactly when all windows made the same choices."""
        digest: str = self._state.hexdigest()[:16]
        return digest

    @property
    def counts(self) -> dict[str, int]:
        """Tokens of each verdict, by its lower-case name."""
        totals = self._counts().sum(0)
        return {verdict.name.lower(): int(totals[verdict]) for verdict in Verdict}

    def tensors(self) -> dict[str, Tensor]:
        """``verdict`` (N,) uint8, ``indices`` (K,) int64 of the kept, ``first_token`` (T,) int64 of each frame,
        ``per_frame`` (T, 7) int32 tokens of each verdict and ``timestamps`` (T,) float64.
        """
        verdict = torch.frombuffer(self.verdict, dtype=torch.uint8)
        tokens = torch.from_numpy(np.array(self.tokens_per_frame, np.int64))
        return {
            "verdict": verdict,
            "indices": torch.isin(verdict, torch.tensor(KEPT, dtype=torch.uint8)).nonzero()[:, 0],
            "first_token": tokens.cumsum(0) - tokens,
            "per_frame": torch.from_numpy(self._counts()),
            "timestamps": torch.from_numpy(np.array(self.timestamps)),
        }

    def chart(self) -> Figure:
        """Kept tokens over time, stacked by verdict: the mean of as many frames as a point of the picture covers."""
        from ..viz.charts import stream_chart

        bins = min(BINS, self.frames)
        edges = np.linspace(0, self.frames, bins + 1).astype(int)
        means = np.add.reduceat(self._counts(), edges[:-1], axis=0) / np.diff(edges)[:, None]
        return stream_chart(means, np.array(self.timestamps)[edges[:-1]])

    def save(
        self,
        folder: str | Path,
        extra: dict[str, Any] | None = None,
        *,
        overwrite: bool = False,
        numbered: bool = False,
    ) -> Path:
        """Write ``stream.safetensors`` (:meth:`tensors`), ``stream.json`` (the rest, and ``extra``) and ``stream.png``:
        all of it, or nothing.

        Returns:
            The folder that was written: with ``numbered`` the first free one of ``folder``, ``folder-2``, ...

        Raises:
            StgraphError: the folder is taken or cannot be written to.
        """
        from safetensors.torch import save

        with new_output(folder, overwrite=overwrite, numbered=numbered) as output:
            new = output.folder
            (new / "stream.safetensors").write_bytes(save(self.tensors()))
            self.chart().savefig(new / "stream.png")
            record = {
                "digest": self.digest,
                "frames": self.frames,
                "windows": self.windows,
                "tokens": len(self.verdict),
                "kept": self.kept,
                "counts": self.counts,
                "verdicts": {verdict.name.lower(): int(verdict) for verdict in Verdict},
                "seconds": self.seconds,
                "notes": list(self.notes),
            }
            (new / RECORD).write_text(json.dumps(record | (extra or {}), indent=2, ensure_ascii=False) + "\n", "utf-8")
        return output.path

    def summary(self) -> str:
        """The figures of the stream, a few lines of text."""
        counts = self.counts
        visual = len(self.verdict) - self.num_separators
        chosen = self.kept - counts["separator"]
        share = 100 * chosen / visual if visual else 0.0
        spent = sum(self.seconds.values())
        lines = [
            f"{self.frames} frames in {self.windows} windows, {visual} tokens → {chosen} kept ({share:.2f} %)"
            + (f", {self.num_separators} separators → {counts['separator']}" if self.num_separators else ""),
            ", ".join(f"{name} {number}" for name, number in counts.items()),
            "  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self.seconds.items())
            + f", {self.frames / spent:.0f} frames per second",
            *(f"note: {note}" for note in self.notes),
            f"digest {self.digest}",
        ]
        return "\n".join(lines)

    def _counts(self) -> np.ndarray:
        return np.array(self.per_frame, np.int32).reshape(-1, len(Verdict))


def stream_video(
    path: str | Path,
    config: Config,
    *,
    window: int = 64,
    context: int = 1,
    allow_corrupt: bool = False,
    progress: bool | Progress = False,
    record: StreamRecord | None = None,
) -> Iterator[StreamWindow]:
    """Read, encode and select a video file of any length, in the memory of a few windows.

    The file is scanned once for the times of its frames, then decoded ``window`` frames at a time. Encoders that look
    at one frame at a time give the same tokens as for the whole video.

    Args:
        path: video file.
        config: its video settings, encoder and selector are used.
        window: frames that are read, judged and released together.
        context: as for :func:`stgraph.stream`.
        allow_corrupt: use what can be decoded of a damaged file.
        progress: as for :func:`stgraph.read_video`.
        record: takes in every window before it is handed out, the notes and the time of each stage.

    Raises:
        StgraphError: anything wrong with the video, the encoder or the selection.
    """
    check_number("window", window, at_least=1, at_most=10**6, integer=True)
    check_number("context", context, at_least=0, at_most=10**6, integer=True)
    encoder, selector = config.encoder(), config.selector()
    videos = read_blocks(
        path, window, **config.video, largest=encoder.largest, allow_corrupt=allow_corrupt, progress=progress
    )
    record = StreamRecord() if record is None else record

    def encoded() -> Iterator[Encoded]:
        for video in _timed(videos, "read", record.seconds):
            record.notes.update(dict.fromkeys(video.notes))
            start = time.perf_counter()
            tokens = encoder(video)
            record.seconds["encode"] = record.seconds.get("encode", 0.0) + time.perf_counter() - start
            yield tokens

    def released() -> Iterator[StreamWindow]:
        for each in stream(encoded(), selector, window=window, context=context):
            record.add(each)
            yield each

    return released()


def record_stream(path: str | Path, config: Config, **settings: Any) -> StreamRecord:
    """The record of a whole video; the settings are those of :func:`stream_video`."""
    record = StreamRecord()
    deque(stream_video(path, config, record=record, **settings), maxlen=0)
    return record


def _timed(videos: Iterable[Video], stage: str, seconds: dict[str, float]) -> Iterator[Video]:
    """The same videos; the time that they take to come is added up."""
    iterator = iter(videos)
    while True:
        start = time.perf_counter()
        video = next(iterator, None)
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
        if video is None:
            return
        yield video
