"""``stgraph compare``: several settings on the same tokens."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Optional

import typer

from ...errors import readable
from .options import (
    AllowCorrupt,
    ConfigFile,
    EventsFile,
    Exact,
    NoCache,
    Overrides,
    Overwrite,
    Quiet,
    Trust,
    settings_of,
)
from .printing import console, shows_bar

COMPARED_SAMPLE = 4096
"""Dropped tokens on which ``compare`` measures them: more, because its figures are compared with each other."""


def compare(
    video: Annotated[Path, typer.Argument(help="Video file.", show_default=False)],
    overrides: Overrides = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            help="Folder for the table and the figure.",
            show_default="outputs/compare-<video>, or -2, ...",
        ),
    ] = None,
    config: ConfigFile = None,
    events: EventsFile = None,
    overwrite: Overwrite = False,
    allow_corrupt: AllowCorrupt = False,
    trust: Trust = False,
    no_cache: NoCache = False,
    exact: Exact = False,
    quiet: Quiet = False,
) -> None:
    """Compare settings with several values, such as community=components,leiden or 'selector=glob(*)', on the same
    tokens.
    """
    from rich.table import Table

    from .. import compare as comparison
    from ..cache import Cache
    from ..output import check_output, default_output
    from ..pipeline import encode
    from ..progress import COMPARE, stage_bar

    folder, numbered = output or default_output(video, "compare-"), output is None and not overwrite
    words, base = settings_of(overrides or [], config, trust=trust)
    chosen = comparison.combinations(words, base, trust=trust)
    check_output(folder, overwrite=overwrite, numbered=numbered)
    with stage_bar(COMPARE, shown=shows_bar(quiet)) as progress:
        cache = None if no_cache else Cache()
        encoded = encode(
            video, chosen[0][1], events=events, allow_corrupt=allow_corrupt, progress=progress, cache=cache
        )
        count = itertools.count()
        found = comparison.compare(
            encoded.tokens,
            encoded.signals,
            chosen,
            events=encoded.events,
            say=lambda name: progress("comparing", next(count) / len(chosen)),
            sample=None if exact else COMPARED_SAMPLE,
        )
        progress("drawing", 0)
        title = f"{readable(video.name)}, {len(encoded.tokens)} tokens"
        folder = comparison.save(found, folder, title, overwrite=overwrite, numbered=numbered)
    if not quiet:
        short = comparison.summary(found.results)
        heads, rows = short or comparison.table(found.results)
        printed = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
        for number, head in enumerate(heads):
            name = number < (1 if short else len(found.results[0].words or [""]))
            title = head.rpartition(".")[2].replace("_", " ") if name else head
            printed.add_column(title, justify="left" if name else "right", no_wrap=False, max_width=15 if name else 14)
        for row in rows:
            printed.add_row(*map(comparison.text, row))
        console().print(printed)
        for note in found.notes:
            console().print(f"note: {note}", highlight=False)
        console().print(f"table and figure in {readable(folder)}", highlight=False, soft_wrap=True)
