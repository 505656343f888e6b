"""Results of a comparison: what each configuration gave, and which could not be run."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..selectors.metrics import Quality, columns
from ..selectors.selection import Selection
from ..selectors.simdiff import Analysis
from .config import Config


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
