"""The main job: a video in; selected tokens, pictures and a report out."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StgraphError
from .cache import Cache, encoded_key, video_key
from .config import Config
from .progress import Report, silent

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor

    from ..sample import SampleEvent
    from ..selectors import Selection
    from ..selectors.metrics import Quality
    from ..signals import Signals
    from ..tokens import VideoTokens
    from ..video import Video
    from ..viz.explorer import Explorer
    from ..viz.scene import Scene

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
        cached: what came from the cache: ``"frames"``, ``"tokens"``.
    """

    config: Config
    video: Video
    tokens: VideoTokens
    selection: Selection
    quality: dict[str, Quality]
    seconds: dict[str, float]
    cached: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader and the selector said that a user should know."""
        return (*self.video.notes, *self.selection.notes)

    @cached_property
    def scene(self) -> Scene:
        """The run, ready to be drawn."""
        from ..viz.scene import scene

        return scene(self.selection, self.video, self.tokens)

    def show(self) -> Explorer:
        """The explorer of this run: a widget in a notebook, ``.save(path)`` makes it a page."""
        return self.scene.explore()

    def draw(self, kind: str, **options: Any) -> Figure:
        """One picture of this run; kinds are those of :data:`stgraph.viz.KINDS`."""
        return self.scene.draw(kind, **options)

    def _repr_html_(self) -> str:
        return self.selection._repr_html_()


@dataclass(frozen=True, eq=False)
class Encoding:
    """A video and its tokens, before anything is selected.

    Attributes:
        video: the sampled frames.
        tokens: their tokens.
        signals: what the encoder hands on.
        events: (N,) bool known event tokens of each kind; empty when none are known.
        seconds: time of reading and of encoding.
        cached: what came from the cache: ``"frames"``, ``"tokens"``.
    """

    video: Video
    tokens: VideoTokens
    signals: Signals
    events: dict[str, Tensor]
    seconds: dict[str, float]
    cached: tuple[str, ...] = ()


def encode(
    path: str | Path,
    config: Config,
    *,
    events: str | Path | None = None,
    allow_corrupt: bool = False,
    progress: Report = silent,
    cache: Cache | None = None,
) -> Encoding:
    """Read and encode a video.

    Frames are shrunk while they are decoded to what the encoder makes use of (:attr:`Encoder.largest`), so memory is
    that of the sampled frames at no more than this size.

    Args:
        path: video file.
        config: its video settings and its encoder are used.
        events: a file of known events as :func:`stgraph.sample.render_sample` writes it.
        allow_corrupt: use what can be decoded of a damaged file.
        progress: called with the stages ``reading`` and ``encoding``.
        cache: takes frames and tokens of earlier runs, and keeps those of this one; none when not given.

    Raises:
        StgraphError: anything wrong with the video, the events file or the encoder.
    """
    from ..video import check_file, read_video

    seconds: dict[str, float] = {}
    cached: list[str] = []
    encoder = config.encoder()
    progress("reading", 0)
    with _timed("read", seconds):
        settings = {**config.video, "largest": encoder.largest, "allow_corrupt": allow_corrupt}
        check_file(Path(path))
        key = None if cache is None else video_key(path, settings)
        video = cache.video(key) if cache and key else None
        if video is not None:
            video = replace(video, source=str(path))
            cached.append("frames")
        else:
            video = read_video(path, **settings, progress=lambda done, total: progress("reading", done / total))
    known = _known_events(events)
    progress("encoding", 0)
    with _timed("encode", seconds):
        token_key = None if key is None else encoded_key(key, encoder, config.data["encoder"])
        encoded = cache.encoded(token_key) if cache and token_key else None
        if encoded is not None:
            cached.append("tokens")
        else:
            encoded = encoder(video)
            _check_encoded(encoded.tokens, encoder)
    if cache and key and "frames" not in cached:
        cache.keep_video(key, video)
    if cache and token_key and "tokens" not in cached:
        cache.keep_encoded(token_key, encoded)
    tokens, signals = encoded
    masks = _event_masks(known, tokens, video.stored_size or (video.height, video.width))
    return Encoding(video, tokens, signals, masks, seconds, tuple(cached))


def compress(encoded: Encoding, config: Config, *, progress: Report = silent, sample: int | None = None) -> Run:
    """Select and measure.

    Args:
        encoded: what :func:`encode` returned.
        config: its selector is used.
        progress: called with the stages ``selecting`` and ``measuring``.
        sample: as for :func:`stgraph.selectors.metrics.evaluate`.

    Raises:
        StgraphError: anything wrong with the selection, such as a signal that the selector needs and lacks.
    """
    tokens, seconds = encoded.tokens, dict(encoded.seconds)
    progress("selecting", 0)
    with _timed("select", seconds):
        selection = config.selector()(tokens, encoded.signals)
    progress("measuring", 0)
    with _timed("measure", seconds):
        quality = measure(config, tokens, selection, encoded.events, sample=sample)
    return Run(config, encoded.video, tokens, selection, quality, seconds, encoded.cached)


def measure(
    config: Config,
    tokens: VideoTokens,
    selection: Selection,
    events: dict[str, Tensor] | None = None,
    *,
    sample: int | None = None,
) -> dict[str, Quality]:
    """Quality of a selection that ``config`` led to, and of the floors at the same budget, by selector name."""
    from ..registry import registry
    from ..selectors.metrics import evaluate

    own, budget = config.data["selector"]["name"], {key: config.data[key] for key in ("retention", "tokens")}
    quality = {own: evaluate(tokens, selection, events or {}, sample=sample)}
    for name in FLOORS:
        if name != own:
            floor = registry("selector").build({"name": name, **budget})
            quality[name] = evaluate(tokens, floor(tokens), events or {}, sample=sample)
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
    """Raise unless all features are finite, with advice that fits the encoder."""
    bad = (~tokens.features.isfinite().all(1)).nonzero()[:, 0]
    if len(bad):
        raise StgraphError(
            f"encoder {type(encoder).__name__} gave features that are not finite for {len(bad)} tokens, the first in "
            f"frame {int(tokens.coords[bad[0], 0])}; try dtype=float32, or check the model's weights"
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
