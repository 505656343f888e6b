"""``stgraph stream``: a video of any length, window by window."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ...errors import readable
from .options import (
    AllowCorrupt,
    ConfigFile,
    Overrides,
    Overwrite,
    Quiet,
    Trust,
    settings_of,
)
from .printing import shows_bar


def stream(
    video: Annotated[Path, typer.Argument(help="Video file of any length.", show_default=False)],
    overrides: Overrides = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output", "-o", help="Folder for the results.", show_default="outputs/stream-<video>, or -2, ..."
        ),
    ] = None,
    window: Annotated[int, typer.Option(help="Number of frames that are selected together.")] = 64,
    context: Annotated[int, typer.Option(help="Number of frames before each window that its graph includes too.")] = 1,
    config: ConfigFile = None,
    overwrite: Overwrite = False,
    allow_corrupt: AllowCorrupt = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Select the tokens of a long video window by window, in bounded memory; one frame per second by default."""
    from ..config import resolve
    from ..output import check_output, default_output
    from ..progress import STREAM, stage_bar
    from ..stream import record_stream

    folder, numbered = output or default_output(video, "stream-"), output is None and not overwrite
    words, base = settings_of(overrides or [], config, trust=trust)
    settings = resolve(words, base, trust=trust)
    if not settings.video.keys() & {"frames", "fps", "stride"}:
        settings = resolve([*words, "video.fps=1"], base, trust=trust)
    check_output(folder, overwrite=overwrite, numbered=numbered)
    with stage_bar(STREAM, shown=shows_bar(quiet)) as progress:
        record = record_stream(
            video,
            settings,
            window=window,
            context=context,
            allow_corrupt=allow_corrupt,
            progress=lambda done, total: progress("streaming", done / total),
        )
        progress("drawing", 0)
        about = {"file": readable(video.name)}
        details = {"video": about, "window": window, "context": context, "config": settings.data}
        folder = record.save(folder, details, overwrite=overwrite, numbered=numbered)
    if not quiet:
        typer.echo(record.summary())
        typer.echo(f"picture {readable(folder / 'stream.png')}")
