"""``stgraph batch``: many videos, each into a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ...errors import StgraphError, readable
from .options import (
    AllowCorrupt,
    ConfigFile,
    Quiet,
    Trust,
    settings_of,
)
from .printing import shows_bar


def batch(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO|FOLDER... [SETTING=VALUE...]",
            help="Videos, folders of videos, and settings such as retention=0.3.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results; finished clips in it are skipped.")
    ] = Path("outputs/batch"),
    workers: Annotated[
        int, typer.Option(help="Number of threads that read videos; with engine=ray, number of workers.")
    ] = 1,
    ahead: Annotated[int, typer.Option(help="Number of videos to read in advance.")] = 2,
    config: ConfigFile = None,
    allow_corrupt: AllowCorrupt = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Select the tokens of many videos, each into its own folder.

    After an interruption, run the same command again to continue.

    engine=ray runs it on a Ray cluster. cpus= and gpus= are per worker; address= names a running cluster.
    """
    from ..batch import compress_folder
    from ..batch_index import INDEX
    from ..cluster import Resources
    from ..config import resolve
    from ..progress import BATCH, stage_bar

    sources = [word for word in words if "=" not in word or os.path.lexists(word)]
    resources, others = Resources.of_words([word for word in words if word not in sources])
    overrides, base = settings_of(others, config, trust=trust)
    settings = resolve(overrides, base, trust=trust)
    if not sources:
        raise StgraphError("batch needs at least one video or folder of videos")
    try:
        with stage_bar(BATCH, shown=shows_bar(quiet)) as progress:
            result = compress_folder(
                sources,
                output,
                settings,
                workers=workers,
                ahead=ahead,
                allow_corrupt=allow_corrupt,
                progress=lambda done, total: progress("clips", done / total),
                resources=resources,
            )
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted; finished clips are in {readable(output)}; run the same command again to continue", err=True
        )
        raise typer.Exit(130) from None
    for name, reason in result.failed.items():
        typer.echo(f"failed: {readable(name)}: {reason}", err=True)
    if not quiet:
        typer.echo(result.summary())
        for note in result.notes:
            typer.echo(f"note: {note}")
        typer.echo(f"table {readable(output / INDEX)}")
    if result.failed:
        raise typer.Exit(1)
