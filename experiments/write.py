"""Results on disk: JSON with everything, one CSV table, Markdown, figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stgraph.app.compare import Cell
from stgraph.app.output import output_folder
from stgraph.app.pipeline import versions

from .score import RECALL, Figures, interval
from .settings import MARK, Settings
from .statistics import words

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(
    settings: Settings, results: Sequence[Mapping[str, Any]], markdown: str, drawings: Mapping[str, Figure]
) -> None:
    """Write ``results.json``, ``results.csv``, ``results.md`` and the figures: all of it, or nothing.

    Args:
        settings: of the experiment.
        results: one mapping per configuration; its ``"figures"`` and its plain values are the columns of the table.
        markdown: the text of ``results.md``.
        drawings: figures by file name without ending.
    """
    record = {"clips": [source.name for source in settings.sources], "score": settings.score, "versions": versions()}
    names = dict.fromkeys(name for result in results for name in result["figures"])
    plain = [key for key, value in results[0].items() if not isinstance(value, (dict, list))]
    with output_folder(settings.output, overwrite=settings.overwrite) as new:
        text = json.dumps({**record, "settings": settings.own, "results": list(results)}, indent=1, ensure_ascii=False)
        (new / MARK).write_text(text + "\n", "utf-8")
        with (new / "results.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*plain, *names])
            for result in results:
                writer.writerow([*(result[key] for key in plain), *(result["figures"].get(name) for name in names)])
        (new / "results.md").write_text(markdown, "utf-8")
        for name, drawing in drawings.items():
            drawing.savefig(new / f"{name}.png", dpi=150)


def kinds(figures: Figures) -> list[str]:
    """The kinds of events whose recall is known."""
    return [name.removeprefix(RECALL) for name in figures if name.startswith(RECALL)]


def cell(clips: Sequence[Figures], name: str) -> Cell:
    """A figure as it stands in a printed table: its mean with the 95 % interval over clips.

    Communities are counted in whole numbers.
    """
    found = interval(clips, name)
    return None if found is None else words(found, scale=1, digits=0 if name == "communities" else 3)


def title(words: Mapping[str, str]) -> str:
    """The words that tell one run from the others: ``"retention 0.1, community leiden"``."""
    return ", ".join(f"{key} {value}" for key, value in words.items())


def folder_text(folder: Path, markdown: str) -> str:
    """What an experiment prints at its end."""
    return f"{markdown}\ntables and figures in {folder}"
