"""Compare configurations on the tokens of one video, and save what was found: ``stgraph compare``."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StgraphError
from ..selectors.metrics import evaluate
from ..selectors.simdiff import STSimDiff
from .compare_figure import figure
from .compare_results import Comparison, Failure, Result
from .compare_table import Cell, jaccard, markdown, summary, table, text
from .config import Config, resolve_all
from .output import new_output
from .overrides import sweep

if TYPE_CHECKING:
    from torch import Tensor

    from ..signals import Signals
    from ..tokens import VideoTokens

__all__ = [
    "NOT_USED",
    "Cell",
    "Comparison",
    "Failure",
    "Result",
    "combinations",
    "compare",
    "figure",
    "jaccard",
    "markdown",
    "measure",
    "save",
    "summary",
    "table",
    "text",
]

NOT_USED = "–"
"""The value of a setting that varies, in a row whose method does not have it."""


def measure(
    tokens: VideoTokens,
    signals: Signals,
    config: Config,
    *,
    words: Mapping[str, str] | None = None,
    events: Mapping[str, Tensor] | None = None,
    repeats: int = 1,
    sample: int | None = None,
) -> Result:
    """Select with one configuration and measure the result.

    Args:
        tokens: what is selected from.
        signals: what the selector may need.
        config: its encoder and video settings are not used.
        words: how the result is called.
        events: known event tokens of each kind.
        repeats: selections that the median time is of, after the first.
        sample: as for :func:`stgraph.selectors.metrics.evaluate`.
    """
    selector = config.selector()
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        selection = selector(tokens, signals)
        times.append(time.perf_counter() - start)
    analysis = selector.analyse(tokens) if isinstance(selector, STSimDiff) else None
    seconds = sorted(times[1:] or times)[len(times[1:]) // 2]
    quality = evaluate(tokens, selection, events or {}, sample=sample)
    return Result(dict(words or {}), config, selection, analysis, quality, seconds)


def combinations(
    overrides: Sequence[str], base: Mapping[str, object] | None = None, *, trust: bool = False
) -> list[tuple[dict[str, str], Config]]:
    """Every combination of overrides with several values, as (the settings that vary, the configuration).

    A setting applies to the combinations whose methods have it. In the others a setting that varies has the value
    :data:`NOT_USED`, and combinations that differ in nothing else are one.

    Raises:
        StgraphError: the encoder or the video settings vary, or a combination is not valid, or a setting applies to
            none.
    """
    every = sweep(overrides)
    varying = [word for word in overrides if len(sweep([word])) > 1]
    for word in varying:
        if word.split("=")[0].split(".")[0] in ("encoder", "video"):
            raise StgraphError(
                f"{word!r} changes the tokens, but all settings are compared on the same tokens; give it one value"
            )
    keys = [word.split("=")[0] for word in varying]
    configs = resolve_all(
        every, base, trust=trust
    )  # before the words are split, because it says which one has no value
    chosen: dict[tuple[str, ...], tuple[dict[str, str], Config]] = {}
    for words, config in zip(every, configs, strict=True):
        values = dict(word.split("=", 1) for word in words)
        row = {key: NOT_USED if key in config.unused else values[key] for key in keys}
        chosen.setdefault(tuple(row.values()), (row, config))
    return list(chosen.values())


def save(
    comparison: Comparison, folder: str | Path, title: str, *, overwrite: bool = False, numbered: bool = False
) -> Path:
    """Write ``compare.csv``, ``compare.md``, ``compare.json`` (with every full configuration) and ``compare.png``.

    Returns:
        The folder that was written: with ``numbered`` the first free one of ``folder``, ``folder-2``, ...
    """
    results = comparison.results
    heads, rows = table(results)
    with new_output(folder, overwrite=overwrite, numbered=numbered) as output:
        new = output.folder
        with (new / "compare.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([heads, *rows])
        short = summary(results)
        parts = [markdown(*short)] if short else []
        (new / "compare.md").write_text("\n".join([*parts, markdown(heads, rows, comparison.notes)]), "utf-8")
        records = [
            dict(zip(heads, row, strict=True))
            | {"digest": result.selection.digest, "notes": result.selection.notes, "unused": result.config.unused}
            | {"config": result.config.data}
            for row, result in zip(rows, results, strict=True)
        ]
        records += [
            {**failure.words, "not run": failure.reason, "unused": failure.config.unused, "config": failure.config.data}
            for failure in comparison.failures
        ]
        (new / "compare.json").write_text(json.dumps(records, indent=2, ensure_ascii=False) + "\n", "utf-8")
        figure(results, title).savefig(new / "compare.png", dpi=150)
    return output.path


def compare(
    tokens: VideoTokens,
    signals: Signals,
    chosen: Sequence[tuple[Mapping[str, str], Config]],
    *,
    events: Mapping[str, Tensor] | None = None,
    repeats: int = 1,
    say: Callable[[str], object] = lambda name: None,
    sample: int | None = None,
) -> Comparison:
    """Measure every configuration on the same tokens, in order.

    If one cannot be run, the others still are. It is among the ``failures``, with the reason.

    Raises:
        StgraphError: none could be run; the reason of the first.
    """
    results: list[Result] = []
    failures: list[Failure] = []
    for words, config in chosen:
        say(", ".join(words.values()) or "default")
        try:
            results.append(measure(tokens, signals, config, words=words, events=events, repeats=repeats, sample=sample))
        except StgraphError as error:
            failures.append(Failure(dict(words), config, str(error)))
    if not results:
        raise StgraphError(failures[0].reason)
    return Comparison(results, failures)
