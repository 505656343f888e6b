"""The main job: a video in; selected tokens, pictures and a report out."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StgraphError
from .config import Config
from .output import output_folder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..sample import SampleEvent
    from ..selectors import Selection
    from ..selectors.metrics import Quality
    from ..signals import Signals
    from ..tokens import VideoTokens
    from ..video import Video

FLOORS = ("random", "uniform")
"""Selectors that every table shows first."""


@dataclass(frozen=True, eq=False)
class Run:
    """Everything that one run found.

    Attributes:
        config: what was asked for.
        video: the sampled frames.
        tokens: their N tokens.
        selection: the kept ones.
        quality: metrics of the selection and of the floors, by selector name, the run's own first.
        seconds: time of each stage.
    """

    config: Config
    video: Video
    tokens: VideoTokens
    selection: Selection
    quality: dict[str, Quality]
    seconds: dict[str, float]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader and the selector said that a user should know."""
        return (*self.video.notes, *self.selection.notes)


@dataclass(frozen=True, eq=False)
class Encoding:
    """A video and its tokens, before anything is selected.

    Attributes:
        video: the sampled frames.
        tokens: their tokens.
        signals: what the encoder hands on.
        events: (N,) bool known event tokens of each kind; empty when none are known.
        seconds: time of reading and of encoding.
    """

    video: Video
    tokens: VideoTokens
    signals: Signals
    events: dict[str, Tensor]
    seconds: dict[str, float]


def encode(
    path: str | Path,
    config: Config,
    *,
    events: str | Path | None = None,
    allow_corrupt: bool = False,
    progress: bool = False,
) -> Encoding:
    """Read and encode a video.

    Args:
        path: video file.
        config: its video settings and its encoder are used.
        events: a file of known events as :func:`stgraph.sample.render_sample` writes it.
        allow_corrupt: use what can be decoded of a damaged file.
        progress: show a progress bar while reading.

    Raises:
        StgraphError: anything wrong with the video, the events file or the encoder.
    """
    from ..video import read_video

    seconds: dict[str, float] = {}
    encoder = config.encoder()
    with _timed("read", seconds):
        video = read_video(path, **config.video, allow_corrupt=allow_corrupt, progress=progress)
    known = _known_events(events)
    with _timed("encode", seconds):
        tokens, signals = encoder(video)
        _check_encoded(tokens, encoder)
    masks = _event_masks(known, tokens, (video.height, video.width))
    return Encoding(video, tokens, signals, masks, seconds)


def compress(encoded: Encoding, config: Config) -> Run:
    """Select and measure.

    Args:
        encoded: what :func:`encode` returned.
        config: its selector is used.

    Raises:
        StgraphError: anything wrong with the selection, such as a signal that the selector needs and lacks.
    """
    tokens, seconds = encoded.tokens, dict(encoded.seconds)
    with _timed("select", seconds):
        selection = config.selector()(tokens, encoded.signals)
    with _timed("measure", seconds):
        quality = measure(config, tokens, selection, encoded.events)
    return Run(config, encoded.video, tokens, selection, quality, seconds)


def measure(
    config: Config, tokens: VideoTokens, selection: Selection, events: dict[str, Tensor] | None = None
) -> dict[str, Quality]:
    """Quality of a selection that ``config`` led to, and of the floors at the same budget, by selector name."""
    from ..registry import registry
    from ..selectors.metrics import evaluate

    own, budget = config.data["selector"]["name"], {key: config.data[key] for key in ("retention", "tokens")}
    quality = {own: evaluate(tokens, selection, events or {})}
    for name in FLOORS:
        if name != own:
            floor = registry("selector").build({"name": name, **budget})
            quality[name] = evaluate(tokens, floor(tokens), events or {})
    return quality


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def _known_events(path: str | Path | None) -> dict[str, list[SampleEvent]]:
    """The events of a file by kind."""
    if path is None:
        return {}
    from ..sample import load_events

    kinds: dict[str, list[SampleEvent]] = {}
    for event in load_events(path):
        kinds.setdefault(event.kind, []).append(event)
    return kinds


def _event_masks(known: dict[str, list[SampleEvent]], tokens: VideoTokens, size: tuple[int, int]) -> dict[str, Tensor]:
    if not known:
        return {}
    from ..sample import event_tokens

    return {kind: event_tokens(events, tokens, size) for kind, events in known.items()}


def _check_encoded(tokens: VideoTokens, encoder: object) -> None:
    """Raise unless all features are finite, in the words of someone who chose the encoder."""
    bad = (~tokens.features.isfinite().all(1)).nonzero()[:, 0]
    if len(bad):
        raise StgraphError(
            f"encoder {type(encoder).__name__} gave features that are not finite for {len(bad)} tokens, the first in "
            f"frame {int(tokens.coords[bad[0], 0])}; try dtype=float32, or check the model's weights"
        )


def save(run: Run, folder: str | Path, *, overwrite: bool = False, also: Mapping[str, str] | None = None) -> None:
    """Write the selection, the configuration, the pictures and the report: all of it, or nothing.

    Args:
        run: what :func:`compress` returned.
        folder: the output folder.
        overwrite: replace another run that it holds.
        also: further text files, by name.

    Raises:
        StgraphError: the folder is taken or cannot be written to.
    """
    from ..selectors.simdiff import STSimDiff
    from ..viz import frame_sheet, overlay_video
    from ..viz.report import write_report

    with output_folder(folder, overwrite=overwrite) as new:
        run.selection.save(
            new,
            {
                "video": {
                    "file": Path(run.video.source or "").name,
                    "frames": len(run.video),
                    "height": run.video.height,
                    "width": run.video.width,
                    "timestamps": run.video.timestamps.tolist(),
                },
                "grids": [list(grid) for grid in run.tokens.grids],
                "config": run.config.data,
                "quality": {name: quality.as_dict() for name, quality in run.quality.items()},
                "notes": list(run.notes),
                "stages": run.seconds,
                "versions": versions(run.tokens.device),
            },
        )
        for name, text in (also or {}).items():
            (new / name).write_text(text, "utf-8")
        (new / "config.yaml").write_text(run.config.to_yaml(), "utf-8")
        grid = run.tokens.grids[0]
        frame_sheet(run.video, run.selection, grid).save(new / "frames.png")
        overlay_video(new / "overlay.mp4", run.video, run.selection, grid)
        selector = run.config.selector()
        found = selector.analyse(run.tokens) if isinstance(selector, STSimDiff) else None
        write_report(
            new / "report.html",
            video=run.video,
            tokens=run.tokens,
            selection=run.selection,
            graph=found.graph if found else None,
            partition=found.partition if found else None,
            difference=found.difference if found else None,
            quality=list(run.quality.items()),
            config=run.config.data,
            seconds={**run.seconds, **run.selection.seconds},
            versions=versions(run.tokens.device),
        )


def versions(device: torch.device | str = "cpu") -> dict[str, str]:
    """Versions of Python and of what a result depends on, and the kernels that serve on this device."""
    from ..kernels import active

    names = ("stgraph-simdiff", "torch", "numpy", "scipy", "av", "transformers", "igraph", "leidenalg")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {"kernels": active(device)}
