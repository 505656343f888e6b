"""The command line: ``stgraph compress``, ``methods``, ``doctor``, ``explain``, ``sample``."""

# Only typer is imported here; every command loads what it needs, so that --help is instant.
from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from . import __version__
from .errors import StgraphError

if TYPE_CHECKING:
    from .pipeline import Run

app = typer.Typer(
    name="stgraph",
    help="Graph analytics for video-token compression: what is redundant, what happens, what to keep.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this annotation at run time
    typer.Argument(
        help="Settings such as retention=0.3 community=leiden difference.threshold=0.15", show_default=False
    ),
]

ConfigFile = Annotated[Optional[Path], typer.Option("--config", "-c", help="YAML file of settings.")]  # noqa: UP045
EventsFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--events", help="Known events, as `stgraph sample` writes them."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")]
AllowCorrupt = Annotated[bool, typer.Option("--allow-corrupt", help="Use what can be decoded of a damaged file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    try:
        app()
    except StgraphError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing was written", err=True)
        sys.exit(130)


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


@app.command()
def compress(
    video: Annotated[Path, typer.Argument(help="Video file.", show_default=False)],
    overrides: Overrides = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Folder for the results.", show_default="outputs/<name of the video>"),
    ] = None,
    config: ConfigFile = None,
    events: EventsFile = None,
    overwrite: Overwrite = False,
    allow_corrupt: AllowCorrupt = False,
    quiet: Quiet = False,
) -> None:
    """Select the tokens of a video; write selection, pictures and a report."""
    from .config import load_config, resolve
    from .output import check_output
    from .pipeline import compress as select
    from .pipeline import encode, save

    output = output or Path("outputs") / video.stem
    settings = resolve(overrides or [], load_config(config) if config else None)
    check_output(output, overwrite=overwrite)
    progress = not quiet and sys.stderr.isatty()
    encoded = encode(video, settings, events=events, allow_corrupt=allow_corrupt, progress=progress)
    run = select(encoded, settings)
    save(run, output, overwrite=overwrite)
    if not quiet:
        _print_run(run, output)


@app.command()
def compare(
    video: Annotated[Path, typer.Argument(help="Video file.", show_default=False)],
    overrides: Overrides = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Folder for table and figure.", show_default="outputs/compare-<video>"),
    ] = None,
    config: ConfigFile = None,
    events: EventsFile = None,
    overwrite: Overwrite = False,
    allow_corrupt: AllowCorrupt = False,
    quiet: Quiet = False,
) -> None:
    """Compare settings with several values, such as community=components,leiden, on the same tokens."""
    from rich.table import Table

    from . import compare as comparison
    from .config import load_config
    from .output import check_output
    from .pipeline import encode

    output = output or Path("outputs") / f"compare-{video.stem}"
    chosen = comparison.combinations(overrides or [], load_config(config) if config else None)
    check_output(output, overwrite=overwrite, mark="compare.json")
    progress = not quiet and sys.stderr.isatty()
    encoded = encode(video, chosen[0][1], events=events, allow_corrupt=allow_corrupt, progress=progress)
    results = comparison.compare(encoded.tokens, encoded.signals, chosen, events=encoded.events)
    comparison.save(results, output, f"{video.name}, {len(encoded.tokens)} tokens", overwrite=overwrite)
    if not quiet:
        heads, rows = comparison.table(results)
        printed = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
        for number, head in enumerate(heads):
            name = number < len(results[0].words or [""])
            title = head.rpartition(".")[2].replace("_", " ")
            printed.add_column(title, justify="left" if name else "right", no_wrap=False, max_width=15 if name else 14)
        for row in rows:
            printed.add_row(*map(comparison.text, row))
        _console().print(printed)
        _console().print(f"table and figure in {output}", highlight=False, soft_wrap=True)


@app.command()
def methods(
    group: Annotated[Optional[str], typer.Argument(help="Only this group.", show_default=False)] = None,  # noqa: UP045
) -> None:
    """List everything that can be plugged in, with its parameters."""
    import inspect

    from rich.table import Table

    from .errors import check_choice
    from .registry import GROUPS, registry

    if group is not None:
        check_choice("group", group, GROUPS)
    for name in [group] if group else GROUPS:
        table = Table(title=f"{name}=…", title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("method", "parameters", "what it does"):
            table.add_column(column, overflow="fold")
        for method in registry(name):
            parameters = registry(name).default_config(method)
            words = ", ".join(f"{key}={_word(value)}" for key, value in parameters.items() if key != "name")
            doc = inspect.getdoc(registry(name).get(method)) or ""
            table.add_row(method, words, doc.split("\n\n")[0].replace("\n", " "))
        _console().print(table)
        _console().print()


@app.command()
def doctor() -> None:
    """Show what is installed and usable on this machine."""
    from rich.table import Table

    from .doctor import checks

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("part", "state", "what for"):
        table.add_column(column, overflow="fold")
    rows = checks()
    for check in rows:
        table.add_row(check.name, f"[{'green' if check.usable else 'yellow'}]{check.state}[/]", check.purpose)
    _console().print(table)
    if any(check.required and not check.usable for check in rows):
        raise StgraphError("a required part is missing; install again with: pip install stgraph-simdiff")


@app.command()
def explain(
    output: Annotated[Path, typer.Argument(help="Folder of a compress run.", show_default=False)],
    token: Annotated[
        list[int], typer.Option("--token", "-t", help="Token number; may be given many times.", show_default=False)
    ],
) -> None:
    """Say why a token was kept or dropped."""
    from .selectors import Selection

    selection = Selection.load(output)
    for number in token:
        typer.echo(selection.why(number))


@app.command()
def sample(
    path: Annotated[Path, typer.Argument(help="Video file to write.")] = Path("sample.mp4"),
    seed: Annotated[int, typer.Option(help="Of the scenery.")] = 0,
) -> None:
    """Render a short clip with known events, and their list beside it."""
    from .sample import render_sample

    clip = render_sample(path, seed=seed)
    typer.echo(f"{clip.path}: {len(clip.events)} events, listed in {clip.events_path}")


def _console() -> Any:
    from rich.console import Console

    # Redirected output is not cut at 80 columns: a table in a file is for searching.
    return Console(width=None if sys.stdout.isatty() else 200)


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["name"])
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _print_run(run: Run, output: Path) -> None:
    from rich.table import Table

    from .metrics import columns

    console = _console()
    counts, tokens = run.selection.counts, run.tokens
    visual = len(tokens) - tokens.num_separators
    budget = sum(run.selection.budget)
    console.print(
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
    console.print(table)
    candidate = run.selection.candidate
    console.print(
        f"representatives {int((candidate & 1).bool().sum())}, events {int((candidate & 2).bool().sum())}, "
        f"together {int((candidate > 0).sum())}, trimmed {counts['trimmed']}, filled {counts['filled']}",
        highlight=False,
    )
    console.print("  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in run.seconds.items()), highlight=False)
    for note in run.notes:
        console.print(f"note: {note}", highlight=False)
    console.print(f"digest {run.selection.digest}", highlight=False)
    console.print(f"report {output / 'report.html'}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
