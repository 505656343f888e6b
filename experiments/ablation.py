"""What each part of the method is worth: one table and one figure for each study in conf/study/.

  python -m experiments.ablation
  python -m experiments.ablation study=[paper,community] videos=[a.mp4,b.mp4] jobs=4
  python -m experiments.ablation study=difference community=leiden retention=0.1,0.2,0.5

Words of stgraph hold for every row that does not say otherwise. docs/experiments.md says what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stgraph.app.compare import Cell, markdown
from stgraph.app.config import Config, resolve
from stgraph.errors import StgraphError, check_choice
from stgraph.registry import GROUPS, registry

from .clips import Source, load
from .run import main, over
from .score import RECALL, Figures, interval, mean
from .settings import Settings, load_score, read
from .write import cell, folder_text, kinds, title, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


@dataclass(frozen=True)
class Row:
    """One configuration of one study, and what it gave.

    Attributes:
        study: name of the study.
        words: those that tell its run from the others, such as the retention.
        name: of the configuration.
        config: the full configuration.
        figures: means over the clips.
        by_clip: figures of every clip.
    """

    study: str
    words: dict[str, str]
    name: str
    config: Config
    figures: Figures
    by_clip: dict[str, Figures]


def run(words: Sequence[str]) -> str:
    """Run the experiment with the words of the command line, write the results and return their text."""
    settings = read("ablation", words)
    rows = measure(settings)
    studies: dict[str, dict[str, Any]] = settings.own["study"]
    by_study = {name: [row for row in rows if row.study == name] for name in studies}
    text = "\n".join(f"## {studies[name]['title']}\n\n{summary(by_study[name])}" for name in studies)
    drawings = {
        name: figure(by_study[name], studies[name]["title"], settings.own["shown"], list(settings.own["floors"]))
        for name in studies
    }
    results = [
        {"study": row.study, **row.words, "configuration": row.name}
        | {"figures": row.figures, "by_clip": row.by_clip, "config": row.config.data}
        for row in rows
    ]
    write(settings, results, text, drawings)
    return folder_text(settings.output, text)


def measure(settings: Settings) -> list[Row]:
    """Every configuration of every study on every clip; one that stands in several studies is measured once."""
    asked = [
        (study, words, name, resolve(row, base.data))
        for study, content in settings.own["study"].items()
        for name, row in rows_of(content, settings.own["floors"]).items()
        for words, base in settings.runs
    ]
    keys = [json.dumps(config.data, sort_keys=True) for *_, config in asked]
    unique = {key: config for key, (*_, config) in zip(keys, asked, strict=True)}
    work = partial(on_clip, list(unique.values()), settings.score)
    measured = over(work, settings.sources, jobs=settings.jobs, total=len(unique) * len(settings.sources))
    by_key = dict(zip(unique, zip(*measured, strict=True), strict=True))
    names = [source.name for source in settings.sources]
    return [
        Row(*row, mean(by_key[key]), dict(zip(names, by_key[key], strict=True)))
        for key, row in zip(keys, asked, strict=True)
    ]


def on_clip(configs: Sequence[Config], score: str, source: Source) -> Iterator[Figures]:
    """Score every configuration on one clip, which is encoded once."""
    clip, scored = load(source, configs[0]), load_score(score)
    for config in configs:
        yield scored(clip, config.selector())


def rows_of(study: Mapping[str, Any], floors: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The rows of a study as name → overrides: every method of a group, its own rows, its variants of them, the floors.

    Args:
        study: ``rows`` by name; ``each`` names a group whose registered methods are rows, but for those to
            ``leave_out``; of all these there are the ``variants``, by what they add to the name.
        floors: rows that every study ends with.

    Raises:
        StgraphError: no such group, or nothing to compare.
    """
    group = study.get("each")
    rows: dict[str, list[str]] = {}
    if group is not None:
        check_choice("each", group, GROUPS)
        rows = {name: [f"{group}={name}"] for name in registry(group) if name not in study.get("leave_out", ())}
    rows |= study.get("rows", {})
    if not rows:
        raise StgraphError("a study needs rows: name=[words], or each=GROUP for all methods of a group")
    variants = study.get("variants", {"": []})
    every = {name + more: [*row, *extra] for name, row in rows.items() for more, extra in variants.items()}
    return {**every, **floors}


def summary(rows: Sequence[Row]) -> str:
    """A study in Markdown, the words that vary side by side."""
    names = ("coverage", "event recall", "communities", "candidates")
    shown = [name for name in names if any(name in row.figures for row in rows)]
    shown = shown or list(dict.fromkeys(name for row in rows for name in row.figures))
    table: dict[str, list[Cell]] = {}
    for row in rows:
        table.setdefault(row.name, []).extend(cell(list(row.by_clip.values()), name) for name in shown)
    runs = list(dict.fromkeys(title(row.words) for row in rows))
    heads = [f"{name}<br>{run}" if run else name for run in runs for name in shown]
    return markdown(["configuration", *heads], [[name, *cells] for name, cells in table.items()])


def figure(rows: Sequence[Row], heading: str, shown: Sequence[str], floors: Sequence[str]) -> Figure:
    """A study as a chart: a row for each configuration, a dot with its interval for each run, recall by kind of event.

    Args:
        rows: of one study.
        heading: its title.
        shown: figures to draw, where they are known.
        floors: names of the configurations that are set apart.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.name for row in rows))
    runs = list(dict.fromkeys(title(row.words) for row in rows))
    panels = [name for name in shown if any(name in row.figures for row in rows)]
    known = kinds(rows[0].figures)
    height = 1.5 + 0.26 * len(names) + (0.5 if known else 0)
    drawing = Figure(figsize=(2.6 + 2.6 * len(panels) + 0.46 * len(known), height), layout="constrained")
    ratios = [2.6] * len(panels) + ([0.46 * len(known)] if known else [])
    axes = drawing.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for panel, name in zip(axes, panels, strict=False):
        _dots(panel, rows, names, runs, name)
        panel.axhline(len(names) - len(floors) - 0.5, color="#999999", linewidth=0.8)
    if known:
        first = [row for row in rows if title(row.words) == runs[0]]
        _recalls(axes[-1], first, known, f"recall by kind{', ' if runs[0] else ''}{runs[0]}")
    axes[0].set_yticks(range(len(names)), names, fontsize=8.5)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    drawing.suptitle(heading, x=0.01, ha="left", fontweight="bold")
    if len(runs) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside upper right", ncols=len(runs), frameon=False, fontsize=9)
    return drawing


def _dots(axes: Axes, rows: Sequence[Row], names: Sequence[str], runs: Sequence[str], figure_name: str) -> None:
    for number, run in enumerate(runs):
        colour = COLOURS[number % len(COLOURS)]
        shown = [row for row in rows if title(row.words) == run and figure_name in row.figures]
        for row in shown:
            place = names.index(row.name) + 0.12 * (number - (len(runs) - 1) / 2)
            found = interval(list(row.by_clip.values()), figure_name)
            if found is not None:
                axes.plot([found.low, found.high], [place, place], "-", color=colour, linewidth=1.2, alpha=0.6)
            axes.plot(row.figures[figure_name], place, "o", color=colour, markersize=5.5)
        axes.plot([], [], "o", color=colour, markersize=5.5, label=run)
    axes.set_title(figure_name, fontsize=10, loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.grid(axis="y", alpha=0.15)
    axes.tick_params(length=0, labelsize=8.5)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _recalls(axes: Axes, rows: Sequence[Row], known: Sequence[str], heading: str) -> None:
    from matplotlib import colormaps

    shades = colormaps["Blues"]
    for place, row in enumerate(rows):
        for column, kind in enumerate(known):
            recall = row.figures[RECALL + kind]
            axes.fill_between(
                [column - 0.5, column + 0.5], place - 0.5, place + 0.5, color=shades(0.85 * recall), linewidth=0
            )
            ink = "white" if recall > 0.6 else "black"
            axes.text(column, place, f"{recall:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    axes.set_xlim(-0.5, len(known) - 0.5)
    labels = [kind.replace("_", " ") for kind in known]
    axes.set_xticks(range(len(known)), labels, rotation=40, ha="right", fontsize=8.5)
    axes.set_title(heading, fontsize=9.5, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    main(run, __doc__)
