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
        typer.Argument(
            metavar="[QUESTION] [SETTING=VALUE...]",
            help="The question, and settings such as retention=0.3.",
            show_default=False,
        ),
    ] = None,
    questions: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--question", help="Another question; can be given several times.", show_default=False),
    ] = None,
    options: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--choose", help="One option of a multiple-choice question; repeat it for each option.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Folder of a video LLM, or its model id on the Hugging Face Hub.", show_default=False
        ),
    ] = "",
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--output",
            "-o",
            help="Folder for the answer, the selection and the report.",
            show_default="none is written",
        ),
    ] = None,
    system: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Text of the system prompt.", show_default="the model's own"),
    ] = None,
    trim: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Where tokens are dropped: before (the LLM), or inside (it).", show_default="the method's own"
        ),
    ] = None,
    layer: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="First layer without the dropped tokens; needs --trim inside.", show_default="2"),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Largest number of tokens in an answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 always takes the likeliest token.")] = 0.0,
    top_p: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Sample from the likeliest tokens whose probabilities add up to this.", show_default="all"),
    ] = None,
    top_k: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Sample from this number of likeliest tokens.", show_default="all"),
    ] = None,
    repetition_penalty: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="Values above 1 make tokens that the answer has already less likely.", show_default="the model's own"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the sampling.")] = 0,
    device: Annotated[str, typer.Option(help="Device of the model: auto, cpu, cuda, cuda:1, ...")] = "auto",
    device_map: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="auto spreads the model over several devices; replaces --device.", show_default="none"),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type of the weights: auto, float32, bfloat16 or float16.")] = "auto",
    attn_implementation: Annotated[
        str, typer.Option(help="Attention implementation: sdpa, eager, flash_attention_2, ...")
    ] = "sdpa",
    quantization_config: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="int8 or int4; needs bitsandbytes and a GPU.", show_default="none"),
    ] = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only one JSON object.")] = False,
    overwrite: Overwrite = False,
    allow_corrupt: AllowCorrupt = False,
    trust: Trust = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer.")] = False,
) -> None:
    """Ask a video LLM about a video. The model sees only the kept tokens of the video."""
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
    # Check the video before the model is loaded, because loading takes long.
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
    printer = _Printer(shown=not as_json, titled=len(found) > 1)
    with qa.video(video, keep_tokens=output is not None) as session:
        if output and len(found) > 1 and not session.selects_once:
            raise StgraphError(
                "each question has its own selection with this method and trim, and --output holds one; ask one "
                "question at a time"
            )
        answers = asking.ask_all(session, found, options or [], told, printer)
    record = asking.record(answers, session.seconds, video=readable(video.name), model=model)
    if output:
        whole = replace(answers[0], report=asking.together(answers, session.seconds))
        more = {} if len(answers) == 1 else {"answers": record["answers"]}
        save_answer(whole, found[0], output, settings, overwrite=overwrite, model=model, **more)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False))
    elif not quiet:
        _print_asked(answers, asking.together(answers, session.seconds), output)


class _Printer:
    """Prints the answers; on a terminal, piece by piece while they are generated."""

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
    """The text without control characters, so that an answer cannot change the state of the terminal."""
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
