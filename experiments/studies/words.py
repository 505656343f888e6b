"""Studies in words: a table in Markdown and two paragraphs, made of the numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

from stgraph.app.compare import Cell, markdown

from ..statistics import words
from .catalogue import FLOORS, FULL, PAPER
from .measure import Line, Measured

SECONDS = " seconds"


def table(measured: Measured) -> str:
    """Accuracy of every row, and how it differs from the base row, retention by retention."""
    parts = []
    for condition in measured.conditions:
        for retention in measured.retentions:
            if not measured.at(retention, condition):
                continue
            rows: list[list[Cell]] = []
            for name in [FULL, *measured.rows]:
                line = measured.line(name, retention, condition)
                if line is not None:
                    rows.append(_cells(line, measured))
            heads = ["configuration", "right answers, %", f"against {measured.study.base}", "p (Holm)"]
            title = f"**{_where(measured, retention, condition)}** ({_asked(measured, retention, condition)})"
            heads += [_heading(name) for name in measured.study.figures if name in measured.outcomes.figures]
            parts.append(f"{title}\n\n{markdown(heads, rows)}")
    if measured.missing:
        parts.append(f"Not measured: {', '.join(measured.missing)}.\n")
    return "\n".join(parts)


def _cells(line: Line, measured: Measured) -> list[Cell]:
    cells: list[Cell] = [line.row, words(line.accuracy)]
    if line.difference is None:
        cells += ["–", "–"]
    else:
        found = line.difference.interval
        text = words(found, sign=True)
        cells += [f"**{text}**" if found.excludes_zero else text, _p(line.holm)]
    for name in measured.study.figures:
        if name in measured.outcomes.figures:
            figure = line.figures.get(name)
            scale, digits = (1000.0, 1) if name.endswith(SECONDS) else (1.0, 0 if name in COUNTED else 3)
            cells.append(None if figure is None else words(figure, scale=scale, digits=digits))
    return cells


COUNTED = ("communities", "tokens", "kept")


def _heading(name: str) -> str:
    return name.replace(SECONDS, ", ms") if name.endswith(SECONDS) else name


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _where(measured: Measured, retention: float, condition: str) -> str:
    named = f", {condition}" if condition and len(measured.conditions) > 1 else ""
    return f"{retention:.0%} of the tokens{named}"


def _asked(measured: Measured, retention: float, condition: str) -> str:
    """How much a table rests on; some rows may have been asked less."""
    questions, clips = measured.asked(retention, condition)
    return f"{questions} questions about {clips} clips"


def paragraphs(measured: Measured) -> tuple[str, str]:
    """What was found, and what it means: two paragraphs made of the numbers."""
    retention = 0.1 if 0.1 in measured.retentions else measured.retentions[0]
    condition = measured.conditions[0]
    lines = sorted(measured.at(retention, condition), key=lambda line: -line.accuracy.estimate)
    base = measured.line(measured.study.base, retention, condition)
    whole = measured.line(FULL, None, condition)
    told = [
        f"{measured.study.question} At {_where(measured, retention, condition)}, over "
        f"{_asked(measured, retention, condition)}:"
    ]
    if whole is not None:
        told.append(f"the model that sees all tokens answers {words(whole.accuracy)} % right.")
    best = [line for line in lines if line.row != FULL][:3]
    told.append("The best rows are " + _listed([f"{line.row} ({words(line.accuracy)})" for line in best]) + ".")
    if base is not None and base not in best:
        told.append(f"{_upper(base.row)} gives {words(base.accuracy)}.")
    floors = [line for name in FLOORS if (line := measured.line(name, retention, condition)) is not None]
    if floors:
        told.append(_upper(_listed([f"{line.row} give {words(line.accuracy)}" for line in floors])) + ".")
    return " ".join(told), _meaning(measured)


def losses(measured: Measured, retention: float) -> str:
    """What the base row loses under each condition."""
    found = {name: measured.loss(measured.study.base, retention, name) for name in measured.conditions}
    return _listed([f"{words(loss, sign=True)} with {name}" for name, loss in found.items() if loss is not None])


def _meaning(measured: Measured) -> str:
    """Which differences to the base row are more than chance, at every retention."""
    if measured.study.view == "lengths":
        told = [f"At {retention:.0%}: {losses(measured, retention)}." for retention in measured.retentions]
        return f"{_upper(measured.study.base)} against all tokens, in points. {' '.join(told)}"
    told = []
    for retention in measured.retentions:
        compared = measured.compared(retention)
        if not compared:
            continue
        better = [line for line in compared if line.beyond_chance and line.points > 0]
        worse = [line for line in compared if line.beyond_chance and line.points < 0]
        text = f"At {retention:.0%}, of {len(compared)} rows held against {measured.study.base}"
        text += f" {len(better)} are better and {len(worse)} worse beyond chance (interval and Holm's p)"
        if better:
            text += f"; the best is {_named(max(better, key=lambda line: line.points), measured)}"
        if worse:
            text += f"; the worst is {_named(min(worse, key=lambda line: line.points), measured)}"
        told.append(text + ".")
    seen = [line.difference.detectable for line in measured.lines if line.difference is not None]
    seen = [value for value in seen if value == value]
    if seen:
        low, high = 100 * min(seen), 100 * max(seen)
        told.append(
            f"With so many clips a true difference of {low:.1f} to {high:.1f} points, depending on the row, is found "
            "four times in five; smaller ones may be there and not be seen."
        )
    return " ".join(told)


def row_of(line: Line, measured: Measured) -> str:
    """The row of a line, with the condition where there are several."""
    return f"{line.row} under {line.condition}" if len(measured.conditions) > 1 else line.row


def _named(line: Line, measured: Measured) -> str:
    found = "" if line.difference is None else words(line.difference.interval, sign=True)
    return f"{row_of(line, measured)} with {found} points"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "none"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def short(measured: Measured, row: str = PAPER, retention: float = 0.1) -> str | None:
    """One figure with its interval: the row against the base."""
    line = measured.line(row, retention)
    if line is None or line.difference is None:
        return None
    return words(line.difference.interval, sign=True)
