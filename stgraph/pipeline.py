"""The main job: a video in; selected tokens, pictures and a report out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Config
from .errors import StgraphError
from .output import output_folder

if TYPE_CHECKING:
    from torch import Tensor

    from .encoders import Encoded
    from .metrics import Quality
    from .selectors import Selection
    from .tokens import VideoTokens
    from .video import Video

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
        events: (N,) bool known event tokens of each kind; empty when none are known.
        seconds: time of each stage.
    """

    config: Config
    video: Video
    tokens: VideoTokens
    selection: Selection
    quality: dict[str, Quality]
    events: dict[str, Tensor]
    seconds: dict[str, float]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader and the selector said that a user should know."""
        return (*self.video.notes, *self.selection.notes)


def compress(
    path: str | Path,
    config: Config,
    *,
    events: str | Path | None = None,
    allow_corrupt: bool = False,
    progress: bool = False,
    say: Callable[[str], object] = lambda stage: None,
) -> Run:
    """Read, encode, select, measure.

    Args:
        path: video file.
        config: see :func:`stgraph.config.resolve`.
        events: a file of known events as :func:`stgraph.sample.render_sample` writes it; adds event recall.
        allow_corrupt: use what can be decoded of a damaged file.
        progress: show a progress bar while reading.
        say: called with the name of every stage as it begins.

    Raises:
        StgraphError: anything wrong with the video, the events file, the encoder or the selection.
    """
    from .metrics import evaluate
    from .registry import registry
    from .video import read_video

    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        say(name)
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    selector, encoder = config.selector(), config.encoder()
    with stage("read"):
        video = read_video(path, **config.video, allow_corrupt=allow_corrupt, progress=progress)
    known = []
    if events is not None:
        from .sample import event_tokens, load_events

        known = list(load_events(events))
    with stage("encode"):
        tokens, signals = encoder(video)
        _check_encoded(tokens, encoder)
    with stage("select"):
        selection = selector(tokens, signals)
    with stage("measure"):
        size = (video.height, video.width)
        kinds = dict.fromkeys(event.kind for event in known)
        masks: dict[str, Tensor] = {
            kind: event_tokens([event for event in known if event.kind == kind], tokens, size) for kind in kinds
        }
        own = config.data["selector"]["name"]
        quality = {own: evaluate(tokens, selection, masks)}
        for name in FLOORS:
            if name != own:
                floor = registry("selector").build({"name": name, "retention": selector.retention})
                quality[name] = evaluate(tokens, floor(tokens), masks)
    return Run(config, video, tokens, selection, quality, masks, seconds)


def _check_encoded(tokens: VideoTokens, encoder: object) -> None:
    """Raise unless all features are finite, in the words of someone who chose the encoder."""
    bad = (~tokens.features.isfinite().all(1)).nonzero()[:, 0]
    if len(bad):
        raise StgraphError(
            f"encoder {type(encoder).__name__} gave features that are not finite for {len(bad)} tokens, the first in frame "
            f"{int(tokens.coords[bad[0], 0])}; try dtype=float32, or check the model's weights"
        )


def save(run: Run, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write the selection, the configuration, the pictures and the report: all of it, or nothing.

    Args:
        run: what :func:`compress` returned.
        folder: the output folder.
        overwrite: replace another run that it holds.

    Raises:
        StgraphError: the folder is taken or cannot be written to.
    """
    from .report import write_report
    from .selectors.simdiff import STSimDiff
    from .viz import frame_sheet, overlay_video

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
                "versions": versions(),
            },
        )
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
            versions=versions(),
        )


def versions() -> dict[str, str]:
    """Versions of Python and of what a result depends on."""
    names = ("stgraph-simdiff", "torch", "numpy", "scipy", "av", "transformers", "igraph", "leidenalg")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
