"""Compare configurations on one video: the table and the figure of ``stgraph compare``."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Config, resolve, sweep
from .errors import StgraphError
from .metrics import Column, Quality, columns, evaluate
from .output import output_folder
from .selectors.selection import Selection
from .selectors.simdiff import Analysis, STSimDiff

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from .signals import Signals
    from .tokens import VideoTokens

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


def measure(
    tokens: VideoTokens,
    signals: Signals,
    config: Config,
    *,
    words: Mapping[str, str] | None = None,
    events: Mapping[str, Tensor] | None = None,
    repeats: int = 1,
) -> Result:
    """Select with one configuration and measure the result.

    Args:
        tokens: what is selected from.
        signals: what the selector may need.
        config: its encoder and video settings are not used.
        words: how the result is called.
        events: known event tokens of each kind.
        repeats: selections that the median time is of, after the first.
    """
    selector = config.selector()
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        selection = selector(tokens, signals)
        times.append(time.perf_counter() - start)
    analysis = selector.analyse(tokens) if isinstance(selector, STSimDiff) else None
    seconds = sorted(times[1:] or times)[len(times[1:]) // 2]
    return Result(dict(words or {}), config, selection, analysis, evaluate(tokens, selection, events or {}), seconds)


def combinations(
    overrides: Sequence[str], base: Mapping[str, object] | None = None
) -> list[tuple[dict[str, str], Config]]:
    """Every combination of overrides with several values, as (the settings that vary, the configuration).

    Raises:
        StgraphError: the encoder or the video settings vary, or a combination is not valid.
    """
    every = sweep(overrides)
    varying = [text for text in overrides if len(sweep([text])) > 1]
    for text in varying:
        if text.split("=")[0].split(".")[0] in ("encoder", "video"):
            raise StgraphError(f"{text!r} varies what is selected from; compare selections of the same tokens")
    keys = [text.split("=")[0] for text in varying]
    chosen = []
    for words in every:
        config = resolve(words, base)  # before the words are split, because it says which one has no value
        values = dict(word.split("=", 1) for word in words)
        chosen.append(({key: values[key] for key in keys}, config))
    return chosen


def table(results: Sequence[Result]) -> tuple[list[str], list[list[Cell]]]:
    """Headings and rows: communities and how they agree with the first, the kept set, its quality, the time."""
    first = results[0]
    quality = columns([result.quality for result in results])
    heads = [
        *(first.words or ["configuration"]),
        "communities",
        "largest",
        "modularity",
        "NMI to first",
        "kept-set Jaccard",
    ]
    heads += [column.title for column in quality] + ["seconds"]
    rows = []
    for number, result in enumerate(results):
        names = list(result.words.values()) or ["default"]
        row: list[Cell] = [*names, *_communities(result, first), jaccard(result.selection, first.selection)]
        rows.append([*row, *(column.values[number] for column in quality), result.seconds])
    return heads, rows


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


def markdown(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """The table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(text, row)) + " |" for row in rows)]) + "\n"


def figure(results: Sequence[Result], title: str) -> Figure:
    """A dot chart: a row for each value of the first setting, a colour for the others, a panel for each figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    rows = list(dict.fromkeys(_split(result)[0] for result in results))
    kinds = list(dict.fromkeys(_split(result)[1] for result in results))
    panels = [column for column in columns([result.quality for result in results]) if column.title in _PANELS]
    panels.append(Column("seconds", "lower", [result.seconds for result in results]))
    drawing = Figure(figsize=(11, 1.6 + 0.34 * len(rows)), layout="constrained")
    every = drawing.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(every, panels, strict=True):
        for number, kind in enumerate(kinds):
            dots = [
                (value, rows.index(_split(result)[0]))
                for value, result in zip(panel.values, results, strict=True)
                if _split(result)[1] == kind and value is not None
            ]
            colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number // len(_COLOURS) % len(_MARKERS)]
            label = kind if axes is every[0] else None
            axes.plot(*zip(*dots, strict=True), marker, color=colour, markersize=8, alpha=0.85, label=label)
        arrow = {"higher": " →", "lower": " ←", None: ""}[panel.better]
        axes.set_title(panel.title + arrow, fontsize=10, loc="left")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    every[0].set_ylim(len(rows) - 0.5, -0.5)
    every[-1].set_xscale("log")
    every[-1].xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    every[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    every[-1].xaxis.set_minor_formatter(NullFormatter())
    drawing.suptitle(title, x=0.01, ha="left", fontsize=11)
    if len(kinds) > 1:
        drawing.legend(loc="outside lower center", ncols=min(len(kinds), 5), frameon=False, fontsize=9)
    return drawing


def _split(result: Result) -> tuple[str, str]:
    """The value of the first setting that varies, and those of the others."""
    first, *others = result.words.values() or ["default"]
    return first, ", ".join(others)


def save(results: Sequence[Result], folder: str | Path, title: str, *, overwrite: bool = False) -> None:
    """Write ``compare.csv``, ``compare.md``, ``compare.json`` (with every full configuration) and ``compare.png``."""
    heads, rows = table(results)
    with output_folder(folder, overwrite=overwrite, mark="compare.json") as new:
        with (new / "compare.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([heads, *rows])
        (new / "compare.md").write_text(markdown(heads, rows), "utf-8")
        records = [
            dict(zip(heads, row, strict=True)) | {"digest": result.selection.digest, "config": result.config.data}
            for row, result in zip(rows, results, strict=True)
        ]
        (new / "compare.json").write_text(json.dumps(records, indent=2, ensure_ascii=False) + "\n", "utf-8")
        figure(results, title).savefig(new / "compare.png", dpi=150)


def compare(
    tokens: VideoTokens,
    signals: Signals,
    chosen: Sequence[tuple[Mapping[str, str], Config]],
    *,
    events: Mapping[str, Tensor] | None = None,
    repeats: int = 1,
    say: Callable[[str], object] = lambda name: None,
) -> list[Result]:
    """Measure every configuration on the same tokens, in order."""
    results = []
    for words, config in chosen:
        say(", ".join(words.values()) or "default")
        results.append(measure(tokens, signals, config, words=words, events=events, repeats=repeats))
    return results
