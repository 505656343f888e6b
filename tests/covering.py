"""Which cases of a large product run by default: a few in which every value meets every other. All others are slow."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import pytest


def covering(*axes: Sequence[Hashable], strength: int = 2, times: int = 1) -> set[tuple[Any, ...]]:
    """Cases in which all combinations of the values of any ``strength`` axes come ``times`` times or more."""
    cases = list(itertools.product(*axes))
    chosen: set[tuple[Any, ...]] = set()

    def parts(case: tuple[Any, ...]) -> list[Hashable]:
        return list(itertools.combinations(enumerate(case), strength))

    left = Counter(dict.fromkeys(itertools.chain.from_iterable(map(parts, cases)), times))
    used: Counter[Hashable] = Counter()

    def worth(number: int) -> tuple[int, int, int]:
        """What a case adds; of equals that with the values which came least, of these the first."""
        case = cases[number]
        return sum(left[part] > 0 for part in parts(case)), -sum(used[value] for value in enumerate(case)), -number

    while any(left.values()) and len(chosen) < len(cases):
        best = max((number for number in range(len(cases)) if cases[number] not in chosen), key=worth)
        chosen.add(cases[best])
        used.update(enumerate(cases[best]))
        left.subtract(part for part in parts(cases[best]) if left[part] > 0)
    return chosen


def parametrized(
    names: str, *axes: Sequence[Any], strength: int = 2, times: int = 1, label: Any = None
) -> pytest.MarkDecorator:
    """``parametrize`` over a product, of which all but :func:`covering` cases are slow.

    Args:
        names: of the arguments, with commas; there may be more than axes where values of the last axis are tuples.
        axes: the values of each.
        strength: see :func:`covering`.
        times: the same.
        label: makes the id of a value; by default its text.
    """
    quick = covering(*axes, strength=strength, times=times)
    cases = []
    for case in itertools.product(*axes):
        flat = [value for part in case for value in (part if isinstance(part, tuple) else (part,))]
        marks = () if case in quick else (pytest.mark.slow,)
        cases.append(pytest.param(*flat, id="-".join(map(label or str, flat)), marks=marks))
    return pytest.mark.parametrize([name.strip() for name in names.split(",")], cases)
