"""The command line; ``stgraph --help`` lists its commands."""

# Only typer is imported here; every command loads what it needs, so that --help is instant.
from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from .. import __version__
from ..errors import StgraphError, readable
from .streams import run

if TYPE_CHECKING:
    from .answers import Answer, AnswerReport
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
Trust = Annotated[
    bool, typer.Option("--trust", help="Import classes that the --config file names, which runs their code.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Use no frames and tokens of earlier runs, and keep none.")]
Exact = Annotated[bool, typer.Option("--exact", help="Measure coverage on all tokens, not on a sample.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


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


SAMPLE = 1024
"""Dropped tokens on which ``compress`` measures coverage and reconstruction, unless ``--exact``."""

COMPARED_SAMPLE = 4096
"""The same for ``compare``, where the figures are what it is run for."""


def _settings(overrides: list[str], config: Path | None, *, trust: bool) -> tuple[list[str], dict[str, Any] | None]:
    """The words of a command and the data of its file.

    A class of the working folder is found where a word names it as ``module:Class``.
    """
    from .config import load_config, names_foreign

    if trust or any(names_foreign(value) for word in overrides for value in word.partition("=")[2].split(",")):
        sys.path.append(str(Path.cwd()))
    return overrides, load_config(config) if config else None


@app.command()
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
    """Select the tokens of a video; write selection, pictures and a report."""
    from .cache import Cache
    from .config import resolve
    from .output import check_output, default_output
    from .pipeline import compress as select
    from .pipeline import encode, save
    from .progress import COMPRESS, stage_bar

    folder, numbered = output or default_output(video), output is None and not overwrite
    words, base = _settings(overrides or [], config, trust=trust)
    settings = resolve(words, base, trust=trust)
    check_output(folder, overwrite=overwrite, numbered=numbered)
    with stage_bar(COMPRESS, shown=_bar(quiet)) as progress:
        cache = None if no_cache else Cache()
        encoded = encode(video, settings, events=events, allow_corrupt=allow_corrupt, progress=progress, cache=cache)
        run = select(encoded, settings, progress=progress, sample=None if exact else SAMPLE)
        folder = save(run, folder, overwrite=overwrite, numbered=numbered, progress=progress)
    if not quiet:
        _print_run(run, folder)


@app.command()
def compare(
    video: Annotated[Path, typer.Argument(help="Video file.", show_default=False)],
    overrides: Overrides = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output", "-o", help="Folder for table and figure.", show_default="outputs/compare-<video>, or -2, ..."
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

    from . import compare as comparison
    from .cache import Cache
    from .output import check_output, default_output
    from .pipeline import encode
    from .progress import COMPARE, stage_bar

    folder, numbered = output or default_output(video, "compare-"), output is None and not overwrite
    words, base = _settings(overrides or [], config, trust=trust)
    chosen = comparison.combinations(words, base, trust=trust)
    check_output(folder, overwrite=overwrite, numbered=numbered)
    with stage_bar(COMPARE, shown=_bar(quiet)) as progress:
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
        _console().print(printed)
        for note in found.notes:
            _console().print(f"note: {note}", highlight=False)
        _console().print(f"table and figure in {readable(folder)}", highlight=False, soft_wrap=True)


@app.command()
def ask(
    video: Annotated[Path, typer.Argument(help="Video file.", show_default=False)],
    words: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[QUESTION] [SETTING=VALUE...]", help="What to ask, and settings.", show_default=False),
    ] = None,
    questions: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--question", help="A further question; may be given many times.", show_default=False),
    ] = None,
    options: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--choose", help="An option to choose from; give each of them.", show_default=False),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Folder of a video LLM, or its model id.", show_default=False)
    ] = "",
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Folder for answer, selection and report.", show_default="none is written"),
    ] = None,
    system: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Replaces the system prompt.", show_default="the model's own"),
    ] = None,
    trim: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Drop tokens before the LLM, or inside it: before, inside.", show_default="the method's own"),
    ] = None,
    layer: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="With --trim inside, the first layer without the trimmed tokens.", show_default="2"),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length of the answer at most.")] = 64,
    temperature: Annotated[float, typer.Option(help="Above 0, tokens are drawn at random.")] = 0.0,
    top_p: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Draw from the likeliest tokens that have this share together.", show_default="all"),
    ] = None,
    top_k: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Draw from so many of the likeliest tokens.", show_default="all"),
    ] = None,
    repetition_penalty: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Above 1, tokens of the answer are less likely again.", show_default="the model's own"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    device_map: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Spread the model over several devices: auto; in place of --device.", show_default="none"),
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    attn_implementation: Annotated[str, typer.Option(help="sdpa, eager, flash_attention_2, ...")] = "sdpa",
    quantization_config: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="int8 or int4, which bitsandbytes does on a GPU.", show_default="none"),
    ] = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    overwrite: Overwrite = False,
    allow_corrupt: AllowCorrupt = False,
    trust: Trust = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer and nothing else.")] = False,
) -> None:
    """Ask a video LLM about a video of which it sees only the tokens that are kept."""
    import torch

    from ..video import read_video
    from . import asking
    from .answers import options_asked
    from .ask import VideoQA, check_video, save_answer, selector_settings
    from .config import resolve
    from .output import check_output

    found, overrides = asking.questions_and_settings(words or [], questions or [])
    told = asking.generation(temperature, top_p, top_k, repetition_penalty)
    if options:
        options_asked(found[0], options)
    if not model:
        raise StgraphError("a question needs a video LLM to answer it; name its folder or model id with --model")
    own, base = _settings(overrides, config, trust=trust)
    settings = selector_settings(resolve(own, base, trust=trust), own)
    if output:
        check_output(output, overwrite=overwrite)
    # What is wrong with the video is said before a model is loaded.
    read_video(check_video(video), frames=1, allow_corrupt=allow_corrupt)
    silent = quiet or as_json
    qa = VideoQA.from_pretrained(
        model,
        settings.selector(),
        device=device,
        device_map=device_map,
        dtype=dtype,
        attn_implementation=attn_implementation,
        quantization_config=quantization_config,
        trim=trim,
        layer=layer,
        max_new_tokens=max_new_tokens,
        system=system,
        sampling={**settings.video, "allow_corrupt": allow_corrupt, "progress": not silent and sys.stderr.isatty()},
    )
    torch.manual_seed(seed)
    teller = _Teller(shown=not as_json, titled=len(found) > 1)
    with qa.video(video, keep_tokens=output is not None) as session:
        if output and len(found) > 1 and not session.selects_once:
            raise StgraphError(
                "each question has its own selection with this method and trim, and --output holds one; ask one "
                "question at a time"
            )
        answers = asking.ask_all(session, found, options or [], told, teller)
    record = asking.record(answers, session.seconds, video=readable(video.name), model=model)
    if output:
        whole = replace(answers[0], report=asking.together(answers, session.seconds))
        more = {} if len(answers) == 1 else {"answers": record["answers"]}
        save_answer(whole, found[0], output, settings, overwrite=overwrite, model=model, **more)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False))
    elif not quiet:
        _print_asked(answers, asking.together(answers, session.seconds), output)


@app.command()
def stream(
    video: Annotated[Path, typer.Argument(help="Video file of any length.", show_default=False)],
    overrides: Overrides = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output", "-o", help="Folder for the results.", show_default="outputs/stream-<video>, or -2, ..."
        ),
    ] = None,
    window: Annotated[int, typer.Option(help="Frames that are judged and released together.")] = 64,
    context: Annotated[int, typer.Option(help="Frames before each window that its graph includes.")] = 1,
    config: ConfigFile = None,
    overwrite: Overwrite = False,
    allow_corrupt: AllowCorrupt = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Select the tokens of a long video window by window, in bounded memory; one frame per second by default."""
    from .config import resolve
    from .output import check_output, default_output
    from .progress import STREAM, stage_bar
    from .stream import record_stream

    folder, numbered = output or default_output(video, "stream-"), output is None and not overwrite
    words, base = _settings(overrides or [], config, trust=trust)
    settings = resolve(words, base, trust=trust)
    if not settings.video.keys() & {"frames", "fps", "stride"}:
        settings = resolve([*words, "video.fps=1"], base, trust=trust)
    check_output(folder, overwrite=overwrite, numbered=numbered)
    with stage_bar(STREAM, shown=_bar(quiet)) as progress:
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


@app.command()
def batch(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO|FOLDER... [SETTING=VALUE...]",
            help="Videos, folders of videos, settings.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results; finished clips in it are skipped.")
    ] = Path("outputs/batch"),
    workers: Annotated[int, typer.Option(help="Threads that read videos; with engine=ray, workers.")] = 1,
    ahead: Annotated[int, typer.Option(help="Videos that are read before they are needed.")] = 2,
    config: ConfigFile = None,
    allow_corrupt: AllowCorrupt = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Select the tokens of many videos, each into a folder of its own; run again to go on after an interruption.

    engine=ray does it on a Ray cluster, with cpus= and gpus= for each worker, and address= of a cluster that runs.
    """
    from .batch import compress_folder
    from .batch_index import INDEX
    from .cluster import Resources
    from .config import resolve
    from .progress import BATCH, stage_bar

    sources = [word for word in words if "=" not in word or os.path.lexists(word)]
    resources, others = Resources.of_words([word for word in words if word not in sources])
    overrides, base = _settings(others, config, trust=trust)
    settings = resolve(overrides, base, trust=trust)
    if not sources:
        raise StgraphError("batch needs at least one video or folder of videos")
    try:
        with stage_bar(BATCH, shown=_bar(quiet)) as progress:
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
            f"interrupted; finished clips are in {readable(output)}, and the same command goes on from there", err=True
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


@app.command()
def methods(
    group: Annotated[Optional[str], typer.Argument(help="Only this group.", show_default=False)] = None,  # noqa: UP045
) -> None:
    """List everything that can be plugged in, with its parameters."""
    import inspect

    from rich.table import Table

    from ..errors import check_choice
    from ..registry import GROUPS, registry

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
    from rich.text import Text

    from ..optional import install_hint
    from .doctor import checks

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("part", "state", "what for"):
        table.add_column(column, overflow="fold")
    rows = checks()
    for check in rows:
        table.add_row(check.name, Text(check.state, "green" if check.usable else "yellow"), check.purpose)
    _console().print(table)
    if any(check.required and not check.usable for check in rows):
        raise StgraphError(f"a required part is missing; install again with: {install_hint()}")


@app.command()
def explain(
    output: Annotated[Path, typer.Argument(help="Folder of a compress run.", show_default=False)],
    token: Annotated[
        list[int], typer.Option("--token", "-t", help="Token number; may be given many times.", show_default=False)
    ],
) -> None:
    """Say why a token was kept or dropped."""
    from ..selectors import Selection

    selection = Selection.load(output)
    for number in token:
        typer.echo(selection.why(number))


@app.command()
def draw(
    output: Annotated[Path, typer.Argument(help="Folder of a compress run.", show_default=False)],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            "-k",
            help="explorer (a page), or graph, river, communities, dendrogram, barcode, events, filmstrip, difference, "
            "kept, sizes, weights (a figure).",
        ),
    ] = "explorer",
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", help="File to write; in the run's folder by default.", show_default=False),
    ] = None,
) -> None:
    """Draw a finished run: its graph to turn and to ask, or one picture."""
    from .draw import draw as drawn

    typer.echo(f"picture {drawn(output, kind, to)}")


@app.command()
def sample(
    path: Annotated[Path, typer.Argument(help="Video file to write.")] = Path("sample.mp4"),
    seed: Annotated[int, typer.Option(help="Of the scenery.")] = 0,
) -> None:
    """Render a short clip with known events, and their list beside it."""
    from ..sample import render_sample

    clip = render_sample(path, seed=seed)
    typer.echo(f"{clip.path}: {len(clip.events)} events, listed in {clip.events_path}")


def _bar(quiet: bool) -> bool:
    """Whether a progress bar is shown."""
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


def _console() -> Any:
    from rich.console import Console

    # Redirected output is not cut at 80 columns: a table in a file is for searching. What is in brackets is no markup:
    # files are named so, and the extras of a package.
    return Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["name"])
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _print_run(run: Run, output: Path) -> None:
    from rich.table import Table

    from ..selectors.metrics import columns

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
    times = "  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in run.seconds.items())
    cached = f" ({' and '.join(run.cached)} from the cache)" if run.cached else ""
    console.print(times + cached, highlight=False)
    own = next(iter(run.quality.values()))
    if own.coverage_standard_error is not None:
        console.print(
            f"coverage and reconstruction error are of a sample of {SAMPLE} dropped tokens, with standard errors of "
            f"{own.coverage_standard_error:.4f} and {own.reconstruction_standard_error:.4f}; --exact takes all",
            highlight=False,
            soft_wrap=True,
        )
    for note in run.notes:
        console.print(f"note: {note}", highlight=False)
    console.print(f"digest {run.selection.digest}", highlight=False)
    console.print(f"report {readable(output / 'report.html')}", highlight=False, soft_wrap=True)


class _Teller:
    """Prints answers, on a terminal as they come."""

    def __init__(self, *, shown: bool, titled: bool) -> None:
        self.streams = shown and sys.stdout.isatty()
        self._shown, self._titled = shown, titled

    def begin(self, question: str) -> None:
        if self._shown and self._titled:
            typer.echo(f"> {_safe(question)}")

    def piece(self, text: str) -> None:
        typer.echo(_safe(text), nl=False)
        sys.stdout.flush()

    def end(self, answer: Answer) -> None:
        if not self._shown:
            return
        typer.echo("" if self.streams and answer.choice is None else _safe(answer.text))
        if answer.choice is not None:
            shares = zip(ascii_uppercase, answer.choice.probabilities, strict=False)
            typer.echo("  ".join(f"{letter} {share:.1%}" for letter, share in shares))


def _safe(text: str) -> str:
    """What a model says must not steer the terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


def _print_asked(answers: Sequence[Answer], report: AnswerReport, output: Path | None) -> None:
    from rich.table import Table

    console = _console()
    share = 100 * report.kept / report.tokens
    generated = sum(answer.report.generated for answer in answers)
    console.print(
        f"{report.frames} frames, {report.tokens} tokens → {report.kept} kept ({share:.2f} %), "
        f"prompt {report.prompt} → {report.prompt_kept}, {generated} generated",
        highlight=False,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for stage in report.seconds:
        table.add_column(stage, justify="right")
    table.add_column("together", justify="right")
    if report.peak_memory is not None:
        table.add_column("peak memory", justify="right")
    row = [f"{seconds:.2f} s" for seconds in (*report.seconds.values(), sum(report.seconds.values()))]
    table.add_row(*row, *([] if report.peak_memory is None else [f"{report.peak_memory / 2**30:.2f} GiB"]))
    console.print(table)
    for note in answers[0].notes:
        console.print(f"note: {note}", highlight=False)
    selections = {answer.selection.digest: None for answer in answers if answer.selection is not None}
    if selections:
        console.print(f"digest {', '.join(selections)}", highlight=False)
    if output is not None:
        console.print(f"report {readable(output / 'report.html')}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
