"""``stgraph ask``: questions to a video LLM about one video."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ...errors import StgraphError, readable
from .options import (
    AllowCorrupt,
    ConfigFile,
    Overwrite,
    Trust,
    settings_of,
)
from .printing import console

if TYPE_CHECKING:
    from ..answers import Answer, AnswerReport


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

    from ...video import read_video
    from .. import asking
    from ..answers import options_asked
    from ..ask import VideoQA, check_video, save_answer, selector_settings
    from ..config import resolve
    from ..output import check_output

    found, overrides = asking.questions_and_settings(words or [], questions or [])
    told = asking.generation(temperature, top_p, top_k, repetition_penalty)
    if options:
        options_asked(found[0], options)
    if not model:
        raise StgraphError("a question needs a video LLM to answer it; name its folder or model id with --model")
    own, base = settings_of(overrides, config, trust=trust)
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

    out = console()
    share = 100 * report.kept / report.tokens
    generated = sum(answer.report.generated for answer in answers)
    out.print(
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
    out.print(table)
    for note in answers[0].notes:
        out.print(f"note: {note}", highlight=False)
    selections = {answer.selection.digest: None for answer in answers if answer.selection is not None}
    if selections:
        out.print(f"digest {', '.join(selections)}", highlight=False)
    if output is not None:
        out.print(f"report {readable(output / 'report.html')}", highlight=False, soft_wrap=True)
