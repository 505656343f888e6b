"""Every statistic against a plain implementation of its definition."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import statistics
from experiments.statistics import Interval
from stgraph.errors import StgraphError


def some_outcomes(models: int = 1, clips: int = 25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes of two methods, and the clip of each question: 1 to 5 questions a clip that are alike."""
    rng = np.random.default_rng(3)
    clip = np.repeat(np.arange(clips), rng.integers(1, 6, clips))
    ease = rng.random(clips)[clip]
    first = (rng.random((models, len(clip))) < ease).astype(float)
    second = (rng.random((models, len(clip))) < 0.8 * ease).astype(float)
    return (first, second, clip) if models > 1 else (first[0], second[0], clip)


def plain_bootstrap(values: list[list[list[float]]], replicates: int) -> tuple[float, float]:
    """The percentile interval of the share of values [model][clip][question], clips and models drawn anew, in loops."""
    draw = random.Random(5)
    models, clips = len(values), len(values[0])
    found = []
    for _ in range(replicates):
        chosen = [draw.randrange(clips) for _ in range(clips)]
        seeds = [draw.randrange(models) for _ in range(models)]
        shares = []
        for seed in seeds:
            drawn = [value for clip in chosen for value in values[seed][clip]]
            shares.append(sum(drawn) / len(drawn))
        found.append(sum(shares) / models)
    found.sort()
    return found[round(0.025 * replicates)], found[round(0.975 * replicates)]


@pytest.mark.parametrize("models", [1, 3])
def test_interval_of_a_difference_is_that_of_a_plain_bootstrap(models):
    first, second, clip = some_outcomes(models)
    values = [[list(row[clip == number]) for number in range(clip.max() + 1)] for row in np.atleast_2d(first - second)]
    low, high = plain_bootstrap(values, 4000)
    found = statistics.difference(first, second, clip, resamples=4000).interval
    assert found.estimate == pytest.approx((first - second).mean())
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_questions_of_a_clip_are_not_independent():
    """Ten equal questions a clip tell no more than one."""
    once = np.array([1, 0, 1, 1, 0, 1, 0, 1] * 5, float)
    clip = np.arange(len(once))
    single = statistics.accuracy(once, clip)
    tenfold = statistics.accuracy(np.repeat(once, 10), np.repeat(clip, 10))
    assert single == tenfold


def test_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        ease = rng.beta(3, 2, 40)
        correct = (rng.random((40, 4)) < ease[:, None]).astype(float).ravel()
        found = statistics.accuracy(correct, np.repeat(np.arange(40), 4), resamples=300, seed=trial)
        held += found.low <= 0.6 <= found.high
    assert 180 <= held <= 199


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_is_the_binomial_test(only_first, only_second):
    n, less = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, k) for k in range(less + 1)) / 2**n
    assert statistics.mcnemar(only_first, only_second) == pytest.approx(min(1.0, 2 * tail))


@settings(max_examples=15)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_the_step_down_rule(p):
    found = statistics.holm(p)
    order = sorted(range(len(p)), key=lambda index: p[index])
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[index]))
        assert found[index] == pytest.approx(running)


def test_detectable_difference_is_found_in_four_of_five_trials():
    """By simulation: clips with that true difference and the spread that was seen, tested as the definition says."""
    from scipy.stats import ttest_1samp

    first, second, clip = some_outcomes(clips=60)
    smallest = statistics.detectable(first, second, clip)
    counts = np.bincount(clip)
    per_clip = np.bincount(clip, weights=first - second)
    spread = ((per_clip - counts * per_clip.sum() / counts.sum()) * len(counts) / counts.sum()).std(ddof=1)
    rng = np.random.default_rng(1)
    trials = rng.normal(smallest, spread, (4000, len(counts)))
    assert (ttest_1samp(trials, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def plain_spearman(x: list[float], y: list[float]) -> float:
    def ranks(values: list[float]) -> list[float]:
        return [sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values]

    one, two = ranks(x), ranks(y)
    mean = (len(x) + 1) / 2
    over = sum((a - mean) * (b - mean) for a, b in zip(one, two, strict=True))
    under = math.sqrt(sum((a - mean) ** 2 for a in one) * sum((b - mean) ** 2 for b in two))
    return over / under if under else 0.0


def test_rank_correlation_is_spearmans_over_the_means_of_methods():
    rng = np.random.default_rng(2)
    first, second = rng.random((6, 30)), rng.random((6, 30)).round(1)
    found = statistics.rank_correlation(first, second)
    assert found.estimate == pytest.approx(plain_spearman(list(first.mean(1)), list(second.mean(1))))
    assert found.low <= found.estimate <= found.high
    same = statistics.rank_correlation(np.arange(12.0).reshape(3, 4), np.arange(12.0).reshape(3, 4))
    assert same == pytest.approx((1, 1, 1))
    assert statistics.rank_correlation(np.ones((3, 4)), first[:3, :4]) == (0, 0, 0)


def test_mean_figure_leaves_out_clips_without_it():
    values = [1.0, 2.0, float("nan"), 3.0]
    found = statistics.mean_figure(values)
    draws = sorted(sum(draw) / 3 for draw in itertools.product([1.0, 2.0, 3.0], repeat=3))
    assert found.estimate == 2
    assert (found.low, found.high) == pytest.approx((draws[0], draws[-1]), abs=0.34)


def test_equal_methods_differ_by_nothing():
    first, _, clip = some_outcomes()
    found = statistics.difference(first, first, clip)
    assert found.interval == (0, 0, 0)
    assert (found.p, found.only_first, found.only_second, found.detectable) == (1, 0, 0, 0)


def test_the_same_seed_gives_the_same_interval():
    first, second, clip = some_outcomes(3)
    assert statistics.difference(first, second, clip) == statistics.difference(first, second, clip)
    assert statistics.accuracy(first, clip, seed=1) != statistics.accuracy(first, clip, seed=2)


def test_words_of_an_interval():
    assert statistics.words(Interval(0.6123, 0.5, 0.7), sign=True) == "+61.2 [+50.0, +70.0]"
    assert statistics.words(Interval(-0.0004, -0.011, 0.002), sign=True) == "0.0 [−1.1, +0.2]"
    assert statistics.words(Interval(0.5, 0.4, 0.6), scale=1, digits=2) == "0.50 [0.40, 0.60]"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.accuracy([1, 0], [0]), "each of 2 questions needs its clip"),
        (lambda: statistics.accuracy([1, float("nan")], [0, 1]), "without gaps"),
        (lambda: statistics.accuracy([], []), "at least one clip"),
        (lambda: statistics.difference([1, 0], [1], [0, 1]), "must have one shape"),
        (lambda: statistics.rank_correlation([[1.0]], [[1.0]]), "at least 3 methods"),
        (lambda: statistics.mean_figure([float("nan")]), "at least one clip"),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(StgraphError, match=message):
        call()
