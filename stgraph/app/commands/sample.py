"""``stgraph sample``: a clip with known events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    path: Annotated[Path, typer.Argument(help="Video file to write.")] = Path("sample.mp4"),
    seed: Annotated[int, typer.Option(help="Random seed of the landscape.")] = 0,
) -> None:
    """Render a short clip with known events, and write the list of events beside it."""
    from ...sample import render_sample

    clip = render_sample(path, seed=seed)
    typer.echo(f"{clip.path}: {len(clip.events)} events, listed in {clip.events_path}")
