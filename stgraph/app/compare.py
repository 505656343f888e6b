"""Compare configurations on one video: the table and the figure of ``stgraph compare``."""

from __future__ import annotations

import csv
import html
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StgraphError
from ..selectors.metrics import Column, Quality, columns, evaluate
from ..selectors.selection import Selection
from ..selectors.simdiff import Analysis, STSimDiff
from ..viz.text import figure_text
from .config import Config, resolve_all, sweep
from .output import new_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from ..signals import Signals
    from ..tokens import VideoTokens

NOT_USED = "–"
"""The value of a setting that varies, in a row whose method does not have it."""

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = "oDs^vPX*"

_PANELS = ("coverage", "reconstruction error", "event recall")

Cell = str | int | float | None


@dataclass(frozen=True, eq=False)
class Result:
    """What one configuration gave.

    Attributes:
        words: the settings that tell it from the others, by name.
        config: the full configuration.
        selection: the kept tokens.
        analysis: graph, communities and differences, for selectors that have them.
        quality: metrics of the selection.
        seconds: median time of the selection, features in, indices out.
    """

    words: dict[str, str]
    config: Config
    selection: Selection
    analysis: Analysis | None
    quality: Quality
    seconds: float

    @property
    def name(self) -> str:
        """The values that tell it from the others, in one line."""
        return ", ".join(self.words.values()) or "default"


@dataclass(frozen=True, eq=False)
class Failure:
    """A configuration that could not be run, such as a method without the signal that it needs.

    Attributes:
        words: the settings that tell it from the others, by name.
        config: the full configuration.
        reason: why, in one sentence.
    """

    words: dict[str, str]
    config: Config
    reason: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every configuration of a comparison, in the order asked for.

    Attributes:
        results: of those that ran, at least one.
        failures: those that did not.
    """

    results: list[Result]
    failures: list[Failure]

    def _repr_html_(self) -> str:
        return _html_table(self)

    @property
    def notes(self) -> list[str]:
        """Settings that did not apply to all rows, and rows that could not be run, a sentence each."""
        lacking: dict[str, dict[str, None]] = {}
        for config in [row.config for row in self.results] + [row.config for row in self.failures]:
            for key, method in config.unused.items():
                lacking.setdefault(key, {})[method] = None
        reasons: dict[str, list[Failure]] = {}
        for failure in self.failures:
            reasons.setdefault(failure.reason, []).append(failure)
        return [
            *(f"{key} is not used by {', '.join(methods)}" for key, methods in lacking.items()),
            *(f"not run: {_settings(failures)}, because {reason}" for reason, failures in reasons.items()),
        ]


def _html_table(comparison: Comparison) -> str:
    """The table of a comparison, the best of each column in bold."""
    table = columns([row.quality for row in comparison.results])
    head = "".join(f"<th style='text-align:right'>{html.escape(column.title)}</th>" for column in table)
    rows = []
    for number, result in enumerate(comparison.results):
        cells = []
        for column in table:
            known = [value for value in column.values if value is not None]
            best = {"higher": max, "lower": min}[column.better](known) if column.better and known else None
            value = column.values[number]
            text = "–" if value is None else f"{value:.4f}"
            cells.append(f"<td style='text-align:right'>{f'<b>{text}</b>' if value == best is not None else text}</td>")
        rows.append(f"<tr><td style='text-align:left'>{html.escape(result.name)}</td>{''.join(cells)}</tr>")
    notes = "".join(f"<div>{html.escape(note)}</div>" for note in comparison.notes)
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{notes}"


def _settings(rows: Sequence[Failure]) -> str:
    """The settings of some rows, as words of the command line."""
    values = {key: dict.fromkeys(row.words[key] for row in rows) for key in rows[0].words}
    if math.prod(map(len, values.values())) == len(rows):  # every combination of these values
        return " ".join(f"{key}={','.join(several)}" for key, several in values.items())
    return "; ".join(" ".join(f"{key}={value}" for key, value in row.words.items()) for row in rows)


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
    varying = [text for text in overrides if len(sweep([text])) > 1]
    for text in varying:
        if text.split("=")[0].split(".")[0] in ("encoder", "video"):
            raise StgraphError(f"{text!r} varies what is selected from; compare selections of the same tokens")
    keys = [text.split("=")[0] for text in varying]
    configs = resolve_all(
        every, base, trust=trust
    )  # before the words are split, because it says which one has no value
    chosen: dict[tuple[str, ...], tuple[dict[str, str], Config]] = {}
    for words, config in zip(every, configs, strict=True):
        values = dict(word.split("=", 1) for word in words)
        row = {key: NOT_USED if key in config.unused else values[key] for key in keys}
        chosen.setdefault(tuple(row.values()), (row, config))
    return list(chosen.values())


def table(results: Sequence[Result]) -> tuple[list[str], list[list[Cell]]]:
    """Headings and rows: communities and how they agree with the first, the kept set, its quality, the time."""
    first = results[0]
    quality = columns([result.quality for result in results])
    graphs = any(result.analysis for result in results)
    heads = list(first.words) or ["configuration"]
    heads += ["communities", "largest", "modularity", "NMI to first"] if graphs else []
    heads += ["kept-set Jaccard", *(column.title for column in quality), "seconds"]
    rows = []
    for number, result in enumerate(results):
        row: list[Cell] = list(result.words.values()) or ["default"]
        row += [*(_communities(result, first) if graphs else []), jaccard(result.selection, first.selection)]
        rows.append([*row, *(column.values[number] for column in quality), result.seconds])
    return heads, rows


def summary(results: Sequence[Result]) -> tuple[list[str], list[list[Cell]]] | None:
    """Headings and rows of a table that puts the values of a number, such as the retention, side by side.

    It has the rows of the :func:`figure` in its order, and the figures of its panels. None where no such number varies
    beside another setting.
    """
    axis, rows, kinds, numbers = _layout(results)
    if axis is None or len(results[0].words) != 2 or len(kinds) < 2 or not _are_numbers(kinds):
        return None
    panels = _panels(results)
    heads = [axis, *(f"{panel.title} {kind}" for panel in panels for kind in kinds)]
    table: list[list[Cell]] = []
    for name, here in zip(rows, numbers, strict=True):
        cells = (panel.values[here[kind]] if kind in here else None for panel in panels for kind in kinds)
        table.append([name, *cells])
    return heads, table


def _communities(result: Result, first: Result) -> list[Cell]:
    if result.analysis is None:
        return [None] * 4
    partition = result.analysis.partition
    similar = result.analysis.similar
    modularity = None if bool((similar.edge_weight < 0).any()) else partition.modularity(similar)
    same = first.analysis is not None and len(first.analysis.partition.labels) == len(partition.labels)
    agreement = partition.compare(first.analysis.partition).nmi if same and first.analysis else None
    return [partition.num_communities, partition.largest_share, modularity, agreement]


def jaccard(a: Selection, b: Selection) -> float:
    """Shared kept tokens over all kept tokens of two selections of the same tokens, in [0, 1]."""
    if len(a.verdict) != len(b.verdict):
        raise StgraphError(
            f"the selections are of {len(a.verdict)} and {len(b.verdict)} tokens; they must be of the same"
        )
    either = int((a.mask | b.mask).sum())
    return int((a.mask & b.mask).sum()) / either if either else 1.0


def text(cell: Cell) -> str:
    """A cell as it stands in a printed table."""
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str] = ()) -> str:
    """The table in Markdown, with notes below it."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(map(text, row)) + " |" for row in rows]
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]) + "\n"


def figure(results: Sequence[Result], title: str) -> Figure:
    """A dot chart with a panel for each metric and a row for each value of the setting that is told by words.

    The other settings are colours. A single number among them, such as the retention, runs from light to dark along a
    line in each row. Rows are in the order of their coverage, the best first, unless they are numbers themselves.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    axis, rows, kinds, dots = _layout(results)
    ordered = _are_numbers(kinds)
    panels = _panels(results)
    drawing = Figure(figsize=(11, 1.5 + 0.3 * len(rows)), layout="constrained")
    every = drawing.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    shades = colormaps["YlGnBu"]
    for axes, panel in zip(every, panels, strict=True):
        axes.set_axisbelow(True)
        for row in range(len(rows)) if ordered else ():
            line = [panel.values[number] for number in dots[row].values()]
            axes.plot(line, [row] * len(line), color="#b8bec6", linewidth=1.6, zorder=1)
        for number, kind in enumerate(kinds):
            there = [(panel.values[here[kind]], row) for row, here in enumerate(dots) if kind in here]
            places = [(value, row) for value, row in there if value is not None]
            step = 0 if ordered else number
            marker = _MARKERS[step // len(_COLOURS) % len(_MARKERS)]
            colour = shades(0.35 + 0.6 * number / max(1, len(kinds) - 1)) if ordered else _COLOURS[step % len(_COLOURS)]
            x, y = zip(*places, strict=True) if places else ((), ())
            axes.plot(x, y, marker, color=colour, markersize=7, alpha=0.9, label=kind if axes is every[0] else None)
        if panel.better == "lower":
            values = [value for value in panel.values if value is not None]
            _logarithmic(axes, values, down_to_zero=panel.title in _PANELS and min(values) < 1e-3)
        arrow = {"higher": " →", "lower": " ←", None: ""}[panel.better]
        axes.set_title(panel.title + arrow, fontsize=10, loc="left")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    every[0].set_ylim(len(rows) - 0.5, -0.5)
    shown = figure_text(title)
    drawing.suptitle(shown.text, x=0.01, ha="left", fontsize=11, fontfamily=shown.family)
    if len(kinds) > 1:
        name = ", ".join(key for key in results[0].words if key != axis)
        columns_of_legend = min(len(kinds), 5)
        drawing.legend(
            loc="outside lower center", ncols=columns_of_legend, frameon=False, fontsize=9, title=name, title_fontsize=9
        )
    return drawing


def _logarithmic(axes: Axes, values: Sequence[float], *, down_to_zero: bool) -> None:
    """A logarithmic x axis with few plain numbers on it; one that goes down to zero is linear below 0.001."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, SymmetricalLogLocator

    if down_to_zero:
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_xlim(-2e-4, 1.3 * max(*values, 1e-3))
        axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1e-3))
    else:
        axes.set_xscale("log")
        wide = max(values) > 30 * min(values)
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _layout(results: Sequence[Result]) -> tuple[str | None, list[str], list[str], list[dict[str, int]]]:
    """The setting that rows stand for, their names, those of the kinds of dots, and for each row the number of the
    result that is its dot of each kind.
    """
    values = {key: list(dict.fromkeys(result.words[key] for result in results)) for key in results[0].words}
    told = {key: len(several) for key, several in values.items() if not _are_numbers(several)}
    axis = max(told or values, key=lambda key: told.get(key, 0), default=None)
    places: dict[str, dict[str, int]] = {}
    for number, result in enumerate(results):
        name = result.words[axis] if axis else result.name
        kind = ", ".join(value for key, value in result.words.items() if key != axis)
        places.setdefault(name, {})[kind] = number
    if axis in told:
        places = dict(sorted(places.items(), key=lambda item: -_mean_coverage(results, item[1].values())))
    kinds = list(dict.fromkeys(kind for here in places.values() for kind in here))
    if _are_numbers(kinds):
        kinds.sort(key=float)
    dots = [{kind: here[kind] for kind in kinds if kind in here} for here in places.values()]
    return axis, list(places), kinds, dots


def _panels(results: Sequence[Result]) -> list[Column]:
    """What a comparison is judged by."""
    panels = [column for column in columns([result.quality for result in results]) if column.title in _PANELS]
    return [*panels, Column("seconds", "lower", [result.seconds for result in results])]


def _mean_coverage(results: Sequence[Result], numbers: Iterable[int]) -> float:
    return statistics.fmean(results[number].quality.coverage for number in numbers)


def _are_numbers(values: Iterable[str]) -> bool:
    try:
        return bool([float(value) for value in values])
    except ValueError:
        return False


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

    One that cannot be run does not cost the others: it is among the ``failures``, with the reason.

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
