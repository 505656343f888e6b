"""Tables of a comparison: all figures, and a short one with the values of a number side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import StgraphError
from ..selectors.metrics import columns
from ..selectors.selection import Selection
from .compare_layout import are_numbers, layout_of, panels_of
from .compare_results import Result

Cell = str | int | float | None


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
    axis, rows, kinds, numbers = layout_of(results)
    if axis is None or len(results[0].words) != 2 or len(kinds) < 2 or not are_numbers(kinds):
        return None
    panels = panels_of(results)
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
            f"the selections were made from {len(a.verdict)} and {len(b.verdict)} tokens; give two of the same tokens"
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
