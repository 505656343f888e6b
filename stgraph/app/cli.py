"""The command line; ``stgraph --help`` lists its commands."""

# Only typer is imported here; every command loads what it needs, so that --help is instant.
from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .commands.ask import ask
from .commands.batch import batch
from .commands.compare import compare
from .commands.compress import compress
from .commands.lists import doctor, methods
from .commands.look import draw, explain
from .commands.sample import sample
from .commands.stream import stream
from .streams import run

app = typer.Typer(
    name="stgraph",
    help="Graph analytics for video-token compression: what is redundant, what happens, what to keep.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    run(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stgraph {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


for command in (compress, compare, ask, stream, batch, methods, doctor, explain, draw, sample):
    app.command()(command)


if __name__ == "__main__":
    main()
