"""The cases that run by default hold what they promise."""

from __future__ import annotations

import itertools

from .covering import covering


def test_every_value_meets_every_other():
    axes = (tuple("abcdefg"), (0, 1), ("x", "y", "z"))
    found = covering(*axes)
    for one, other in itertools.combinations(range(3), 2):
        assert {(case[one], case[other]) for case in found} == set(itertools.product(axes[one], axes[other]))
    assert len(found) == 21, "as few as can be: 7 times 3"


def test_every_value_comes_as_often_as_asked_and_none_is_preferred():
    found = covering(tuple("abcdefgh"), (0, 1, 2), strength=1, times=2)
    assert len(found) == 16
    assert [sum(case[1] == value for case in found) for value in range(3)] in ([5, 5, 6], [5, 6, 5], [6, 5, 5])


def test_where_more_is_asked_than_there_is_all_cases_come():
    assert len(covering("ab", "cd", times=2)) == 4
