"""The layout of a comparison: which setting becomes the rows, which the colours, and which metrics the panels."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from ..selectors.metrics import Column, columns
from .compare_results import Result

PANELS = ("coverage", "reconstruction error", "event recall")


def layout_of(results: Sequence[Result]) -> tuple[str | None, list[str], list[str], list[dict[str, int]]]:
    """The setting that rows stand for, their names, those of the kinds of dots, and for each row the number of the
    result that is its dot of each kind.
    """
    values = {key: list(dict.fromkeys(result.words[key] for result in results)) for key in results[0].words}
    told = {key: len(several) for key, several in values.items() if not are_numbers(several)}
    axis = max(told or values, key=lambda key: told.get(key, 0), default=None)
    places: dict[str, dict[str, int]] = {}
    for number, result in enumerate(results):
        name = result.words[axis] if axis else result.name
        kind = ", ".join(value for key, value in result.words.items() if key != axis)
        places.setdefault(name, {})[kind] = number
    if axis in told:
        places = dict(sorted(places.items(), key=lambda item: -_mean_coverage(results, item[1].values())))
    kinds = list(dict.fromkeys(kind for here in places.values() for kind in here))
    if are_numbers(kinds):
        kinds.sort(key=float)
    dots = [{kind: here[kind] for kind in kinds if kind in here} for here in places.values()]
    return axis, list(places), kinds, dots


def panels_of(results: Sequence[Result]) -> list[Column]:
    """The metrics that a comparison shows."""
    panels = [column for column in columns([result.quality for result in results]) if column.title in PANELS]
    return [*panels, Column("seconds", "lower", [result.seconds for result in results])]


def _mean_coverage(results: Sequence[Result], numbers: Iterable[int]) -> float:
    return statistics.fmean(results[number].quality.coverage for number in numbers)


def are_numbers(values: Iterable[str]) -> bool:
    """Whether there are values, and all of them are numbers."""
    try:
        return bool([float(value) for value in values])
    except ValueError:
        return False
