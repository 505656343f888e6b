"""The clips of an experiment: rendered ones with known events, and any video files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from torch import Tensor

from stgraph.app.config import Config
from stgraph.app.pipeline import encode
from stgraph.sample import Kind, render_events, render_sample, save_events
from stgraph.signals import Signals
from stgraph.tokens import VideoTokens
from stgraph.video import Video, write_video

SAMPLE = "sample"
"""The rendered clip in which a little of everything happens; the others are named by their kind of event."""

FRAMES_PER_SECOND = 8
"""Of clips with one kind of event: a flash of two frames is then seen whichever of them are sampled."""


@dataclass(frozen=True)
class Source:
    """Where a clip comes from: small enough to be sent to a worker process, which renders and encodes it.

    Attributes:
        name: of the clip.
        rendered: ``"sample"`` or a kind of event; not used for a file.
        seed: of the scenery.
        size: (height, width) of a rendered clip in pixels.
        path: a video file instead, whose events are not known.
    """

    name: str
    rendered: str = SAMPLE
    seed: int = 0
    size: tuple[int, ...] = (192, 336)
    path: str | None = None


class Clip(NamedTuple):
    """An encoded clip.

    Attributes:
        name: of the clip.
        tokens: its N tokens.
        signals: what the encoder hands on.
        events: (N,) bool known event tokens of each kind; empty when none are known.
        video: the sampled frames, for scores that look at them.
    """

    name: str
    tokens: VideoTokens
    signals: Signals
    events: dict[str, Tensor]
    video: Video | None = None


def load(source: Source, config: Config) -> Clip:
    """Render the clip, read and encode it with the video settings and the encoder of ``config``.

    Raises:
        StgraphError: anything wrong with the file, the size or the encoder.
    """
    with tempfile.TemporaryDirectory(prefix="stgraph-clip-") as folder:
        path, events = (Path(source.path), None) if source.path else _render(source, Path(folder))
        found = encode(path, config, events=events)
    return Clip(source.name, found.tokens, found.signals, found.events, found.video)


def _render(source: Source, folder: Path) -> tuple[Path, Path]:
    path, events = folder / "clip.mp4", folder / "clip.events.json"
    size = cast("tuple[int, int]", source.size)
    if source.rendered == SAMPLE:
        render_sample(path, size=size, seed=source.seed)
    else:
        clip = render_events(cast("Kind", source.rendered), size=size, fps=FRAMES_PER_SECOND, seed=source.seed)
        write_video(path, clip.video.frames, FRAMES_PER_SECOND)
        save_events(events, clip.events)
    return path, events
