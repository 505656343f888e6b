"""``stgraph compress``: one video into a folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

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

if TYPE_CHECKING:
    from ..pipeline import Run

SAMPLE = 1024
"""Dropped tokens on which ``compress`` measures coverage and reconstruction, unless ``--exact``."""


def compress(
    video: Annotated[Path, typer.Argument(help="Video file.", show_default=False)],
    overrides: Overrides = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output", "-o", help="Folder for the results.", show_default="outputs/<video>, or <video>-2, -3, ..."
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
    """Select the tokens of a video; write the selection, pictures and a report."""
    from ..cache import Cache
    from ..config import resolve
    from ..output import check_output, default_output
    from ..pipeline import compress as select
    from ..pipeline import encode
    from ..progress import COMPRESS, stage_bar
    from ..saved_run import save

    folder, numbered = output or default_output(video), output is None and not overwrite
    words, base = settings_of(overrides or [], config, trust=trust)
    settings = resolve(words, base, trust=trust)
    check_output(folder, overwrite=overwrite, numbered=numbered)
    with stage_bar(COMPRESS, shown=shows_bar(quiet)) as progress:
        cache = None if no_cache else Cache()
        encoded = encode(video, settings, events=events, allow_corrupt=allow_corrupt, progress=progress, cache=cache)
        run = select(encoded, settings, progress=progress, sample=None if exact else SAMPLE)
        folder = save(run, folder, overwrite=overwrite, numbered=numbered, progress=progress)
    if not quiet:
        _print_run(run, folder)


def _print_run(run: Run, output: Path) -> None:
    from rich.table import Table

    from ...selectors.metrics import columns

    out = console()
    counts, tokens = run.selection.counts, run.tokens
    visual = len(tokens) - tokens.num_separators
    budget = sum(run.selection.budget)
    out.print(
        f"{len(run.video)} frames, {visual} tokens → {budget} kept ({100 * budget / visual:.2f} %)"
        + (f", {tokens.num_separators} separators → {counts['separator']}" if tokens.num_separators else ""),
        highlight=False,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("selector")
    figures = columns(list(run.quality.values()))
    for column in figures:
        table.add_column(column.title, justify="right")
    for row, name in enumerate(run.quality):
        values = [column.values[row] for column in figures]
        table.add_row(name, *("–" if value is None else f"{value:.4f}" for value in values))
    out.print(table)
    candidate = run.selection.candidate
    out.print(
        f"representatives {int((candidate & 1).bool().sum())}, events {int((candidate & 2).bool().sum())}, "
        f"together {int((candidate > 0).sum())}, trimmed {counts['trimmed']}, filled {counts['filled']}",
        highlight=False,
    )
    times = "  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in run.seconds.items())
    cached = f" ({' and '.join(run.cached)} from the cache)" if run.cached else ""
    out.print(times + cached, highlight=False)
    own = next(iter(run.quality.values()))
    if own.coverage_standard_error is not None:
        out.print(
            f"coverage and reconstruction error are of a sample of {SAMPLE} dropped tokens, with standard errors of "
            f"{own.coverage_standard_error:.4f} and {own.reconstruction_standard_error:.4f}; --exact takes all",
            highlight=False,
            soft_wrap=True,
        )
    for note in run.notes:
        out.print(f"note: {note}", highlight=False)
    out.print(f"digest {run.selection.digest}", highlight=False)
    out.print(f"report {readable(output / 'report.html')}", highlight=False, soft_wrap=True)
