"""From outcomes to the numbers of a study: accuracy with its interval, and the difference to the base row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import StgraphError

from .. import statistics
from ..outcomes import Outcomes
from ..statistics import Difference, Interval
from .catalogue import FLOORS, FULL, Study


@dataclass(frozen=True)
class Line:
    """One row of a study at one retention and condition.

    Attributes:
        row: its name.
        retention: share of tokens kept.
        condition: of the clips.
        number: row of the outcomes.
        questions: (Q,) bool, those that count: all that the row and the base were both asked.
        accuracy: share of right answers.
        difference: to the base row; None for the base itself and where that was not measured.
        holm: p value of the difference, corrected within the study; None where there is no difference.
        by_kind: share of right answers of each type of question.
        figures: means over clips.
    """

    row: str
    retention: float
    condition: str
    number: int
    questions: NDArray[np.bool_]
    accuracy: Interval
    difference: Difference | None
    holm: float | None
    by_kind: dict[str, float]
    figures: dict[str, Interval]

    @property
    def points(self) -> float:
        """The difference to the base row, in the unit of the outcomes; 0 where there is none."""
        return 0.0 if self.difference is None else self.difference.interval.estimate

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval of the difference excludes zero, and its corrected p value is below 0.05."""
        return (
            self.difference is not None
            and self.difference.interval.excludes_zero
            and self.holm is not None
            and self.holm < 0.05
        )


@dataclass(frozen=True)
class Measured:
    """A study with its numbers.

    Attributes:
        study: what was asked.
        outcomes: that the numbers are of.
        lines: every row that was measured.
        missing: names of rows that were not.
    """

    study: Study
    outcomes: Outcomes
    lines: tuple[Line, ...]
    missing: tuple[str, ...]

    def line(self, row: str, retention: float | None = None, condition: str | None = None) -> Line | None:
        """The first line of a row, at a retention and under a condition if these are given."""
        for line in self.lines:
            if (
                line.row == row
                and (retention is None or row == FULL or line.retention == retention)
                and (condition is None or line.condition == condition)
            ):
                return line
        return None

    def at(self, retention: float, condition: str) -> list[Line]:
        """The lines at a retention and under a condition."""
        return [line for line in self.lines if (line.retention, line.condition) == (retention, condition)]

    def compared(self, retention: float) -> list[Line]:
        """The lines at a retention that are held against the base row, under all conditions, without the floors."""
        return [
            line
            for line in self.lines
            if line.retention == retention and line.difference is not None and line.row not in FLOORS
        ]

    def asked(self, retention: float, condition: str) -> tuple[int, int]:
        """Questions and clips of the row that was asked most, at a retention and under a condition."""
        most = max(self.at(retention, condition), key=lambda line: line.questions.sum())
        return int(most.questions.sum()), len(np.unique(self.outcomes.clip[most.questions]))

    def loss(self, row: str, retention: float, condition: str) -> Interval | None:
        """What a row loses against the model that sees all tokens, on the questions that both were asked."""
        line, full = self.line(row, retention, condition), self.line(FULL, None, condition)
        if line is None or full is None:
            return None
        asked = line.questions & full.questions
        correct, clip = self.outcomes.correct, self.outcomes.clip[asked]
        return statistics.difference(correct[line.number, asked], correct[full.number, asked], clip).interval

    @property
    def retentions(self) -> list[float]:
        """Those that were measured, without the model that sees all."""
        return sorted({line.retention for line in self.lines if line.row != FULL})

    @property
    def conditions(self) -> list[str]:
        """Those that were measured."""
        return list(dict.fromkeys(line.condition for line in self.lines))

    @property
    def rows(self) -> list[str]:
        """Those that were measured, in the order of the study, without the model that sees all."""
        return list(dict.fromkeys(line.row for line in self.lines if line.row != FULL))


def measure(
    study: Study,
    outcomes: Outcomes,
    model: str,
    clips: dict[str, list[str]],
    retentions: Sequence[float] | None = None,
    *,
    resamples: int = statistics.RESAMPLES,
) -> Measured:
    """The numbers of a study.

    Args:
        study: what is compared.
        outcomes: of all cells.
        model: digest of the model.
        clips: names of the clips of each condition.
        retentions: others than the study's.
        resamples: of the bootstrap.

    Raises:
        StgraphError: no two of its rows were measured that it compares.
    """
    points = list(study.points(retentions))
    row_of = {
        (point.row, point.retention, point.condition): number
        for point in points
        if (number := outcomes.row(point.settings, model)) is not None
    }
    lines: list[Line] = []
    missing: dict[str, None] = {}
    for point in points:
        number = row_of.get((point.row, point.retention, point.condition))
        base = row_of.get((study.base, point.retention, point.condition))
        both = [each for each in (number, base) if each is not None]
        asked = outcomes.asked(both, clips[point.condition]) if number is not None else np.zeros(0, bool)
        if number is None or not asked.any():
            missing[point.row] = None
            continue
        compared = base is not None and point.row not in (study.base, FULL)
        lines.append(
            Line(
                point.row,
                point.retention,
                point.condition,
                number,
                asked,
                statistics.accuracy(outcomes.correct[number, asked], outcomes.clip[asked], resamples=resamples),
                _difference(outcomes, number, base, asked, resamples) if compared and base is not None else None,
                None,
                _by_kind(outcomes, number, asked),
                _figures(outcomes, number, asked, study.figures, resamples),
            )
        )
    compared = any(line.difference is not None and line.row not in FLOORS for line in lines)
    if not compared and len({line.condition for line in lines}) < 2:
        raise StgraphError(
            f"nothing of study {study.name} was measured; run python -m experiments.studies {study.name}"
        )
    tested = [line for line in lines if line.difference is not None]
    corrected = statistics.holm([line.difference.p for line in tested if line.difference is not None])
    known = dict(zip(map(id, tested), corrected, strict=True))
    lines = [replace(line, holm=known.get(id(line))) for line in lines]
    here = {line.row for line in lines}
    return Measured(study, outcomes, tuple(lines), tuple(row for row in missing if row not in here))


def _difference(outcomes: Outcomes, number: int, base: int, asked: NDArray[np.bool_], resamples: int) -> Difference:
    return statistics.difference(
        outcomes.correct[number, asked], outcomes.correct[base, asked], outcomes.clip[asked], resamples=resamples
    )


def _by_kind(outcomes: Outcomes, number: int, asked: NDArray[np.bool_]) -> dict[str, float]:
    known = {kind: asked & (outcomes.kind == kind) for kind in outcomes.kinds}
    return {kind: float(outcomes.correct[number, each].mean()) for kind, each in known.items() if each.any()}


def _figures(
    outcomes: Outcomes, number: int, asked: NDArray[np.bool_], names: Sequence[str], resamples: int
) -> dict[str, Interval]:
    clips = np.unique(outcomes.clip[asked])
    found = {}
    for name in names:
        if name in outcomes.figures:
            values = outcomes.figures[name][number, clips]
            if not np.isnan(values).all():
                found[name] = statistics.mean_figure(values, resamples=min(resamples, 1000))
    return found
