"""``stgraph explain`` and ``stgraph draw``: look at a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def explain(
    output: Annotated[Path, typer.Argument(help="Folder of a compress run.", show_default=False)],
    token: Annotated[
        list[int],
        typer.Option("--token", "-t", help="Number of a token; can be given several times.", show_default=False),
    ],
) -> None:
    """Say why a token was kept or dropped."""
    from ...selectors import Selection

    selection = Selection.load(output)
    for number in token:
        typer.echo(selection.why(number))


def draw(
    output: Annotated[Path, typer.Argument(help="Folder of a compress run.", show_default=False)],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            "-k",
            help="explorer or report (pages), or graph, river, communities, dendrogram, barcode, events, filmstrip, "
            "difference, kept, sizes, weights (a figure).",
        ),
    ] = "explorer",
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", help="File to write; in the run's folder by default.", show_default=False),
    ] = None,
) -> None:
    """Draw a finished run: an interactive page of its graph, or one picture."""
    from ..draw import draw as drawn

    typer.echo(f"picture {drawn(output, kind, to)}")
