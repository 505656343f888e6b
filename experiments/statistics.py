"""Statistics of paired outcomes: what a difference between two methods is worth, and how small a one can be seen.

All methods answer the same questions, several about each clip. The questions of a clip are not independent, so every
interval comes from a bootstrap over clips. Several trained models ("seeds") are an inner level: each replicate draws
clips, then models, both with replacement.

Arrays of outcomes have the shape (Q,), or (S, Q) for S models: 1 right, 0 wrong. ``clip`` is (Q,), the number of the
clip that each question is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stgraph.errors import StgraphError
from stgraph.optional import require

Floats = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate with its interval.

    Attributes:
        estimate: on all the data.
        low: lower end of the interval.
        high: upper end.
    """

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Difference:
    """How much better one method is than another on the same questions.

    Attributes:
        interval: first − second, in the unit of the outcomes.
        p: of exact McNemar's test. It counts questions, not clips, so read it beside the interval. ``holm`` corrects
            the p values of a study.
        only_first: questions that only the first method answers right, over all models.
        only_second: questions that only the second answers right.
        detectable: the smallest true difference that these clips show with 80 % power.
    """

    interval: Interval
    p: float
    only_first: int
    only_second: int
    detectable: float


def interval(
    clips: int,
    statistic: Callable[[NDArray[np.int64]], Floats],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap interval of any statistic of a set of clips.

    Args:
        clips: how many there are, ≥ 1. One clip gives an interval of width zero, which means nothing.
        statistic: of drawn clips: (R, clips) int64 indices → (R,) values.
        resamples: replicates.
        level: of the interval, such as 0.95.
        seed: of the draws. The same seed gives the same interval.

    Raises:
        StgraphError: there is no clip.
    """
    from scipy.stats import bootstrap

    if clips < 1:
        raise StgraphError("an interval needs at least one clip; name some")
    every = np.arange(clips)
    estimate = float(statistic(every[None])[0])
    if clips == 1:
        return Interval(estimate, estimate, estimate)

    def vectorised(index: NDArray[np.int64], axis: int = -1) -> Floats:
        moved = np.moveaxis(index, axis, -1)
        values: Floats = statistic(moved.reshape(-1, clips)).reshape(moved.shape[:-1])
        return values

    found = bootstrap(
        (every,),
        vectorised,
        n_resamples=resamples,
        batch=max(1, 4_000_000 // clips),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Interval(estimate, float(low), float(high))


def accuracy(correct: ArrayLike, clip: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The share of right answers with its interval.

    Raises:
        StgraphError: the arrays do not fit each other.
    """
    sums, counts = _by_clip(_outcomes(correct), clip)
    return interval(len(counts), _share(sums, counts, seed), resamples=resamples, seed=seed)


def difference(
    first: ArrayLike, second: ArrayLike, clip: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """How much more often the first method is right than the second, on the same questions.

    Raises:
        StgraphError: the arrays do not fit each other.
    """
    one, two = _outcomes(first), _outcomes(second)
    if one.shape != two.shape:
        raise StgraphError(f"paired outcomes must have one shape, got {one.shape} and {two.shape}")
    sums, counts = _by_clip(one - two, clip)
    found = interval(len(counts), _share(sums, counts, seed), resamples=resamples, seed=seed)
    only_first, only_second = int((one > two).sum()), int((one < two).sum())
    return Difference(found, mcnemar(only_first, only_second), only_first, only_second, detectable(one, two, clip))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p value of exact McNemar's test: of n questions on which two methods differ, n/2 each by chance."""
    tables = require("statsmodels.stats.contingency_tables", extra="experiments", needed_by="a paired test")
    table = [[0, only_first], [only_second, 0]]
    return min(1.0, float(tables.mcnemar(table, exact=True).pvalue))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction: p values such that rejecting those ≤ α keeps the family's error rate at α."""
    if not len(p):
        return []
    multitest = require("statsmodels.stats.multitest", extra="experiments", needed_by="Holm's correction")
    return [float(value) for value in multitest.multipletests(p, method="holm")[1]]


def detectable(first: ArrayLike, second: ArrayLike, clip: ArrayLike, *, power: float = 0.8) -> float:
    """The smallest true difference between two such methods that a test at the 5 % level finds with this power.

    The paired t test over clips, with the spread that was seen. NaN for fewer than two clips, 0 where no clip differs
    from another.

    Raises:
        StgraphError: the arrays do not fit each other.
    """
    module = require("statsmodels.stats.power", extra="experiments", needed_by="the power of a test")
    differences = _outcomes(first) - _outcomes(second)
    sums, counts = _by_clip(differences.mean(0, keepdims=True), clip)
    n = len(counts)
    if n < 2:
        return float("nan")
    # The share is a ratio of two sums over clips; this is its linear form, one value a clip.
    values = (sums[0] - counts * sums.sum() / counts.sum()) * n / counts.sum()
    effect = module.TTestPower().solve_power(nobs=n, alpha=1 - LEVEL, power=power, alternative="two-sided")
    return float(effect * values.std(ddof=1))


def mean_figure(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of one figure a clip with its interval; NaN marks a clip that does not have it.

    Raises:
        StgraphError: no clip has it.
    """
    figures = np.asarray(values, float)
    figures = figures[~np.isnan(figures)]
    return interval(len(figures), lambda index: cast(Floats, figures[index].mean(-1)), resamples=resamples, seed=seed)


def rank_correlation(first: ArrayLike, second: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Spearman's correlation between two quantities of methods, with an interval over clips.

    Args:
        first: (M, K), a value of each of M methods on each of K clips, such as coverage.
        second: (M, K), likewise, such as the share of right answers.
        resamples: see :func:`interval`.
        seed: see :func:`interval`.

    Methods are compared by their means over the drawn clips. It is 0 where one quantity is the same for all methods.

    Raises:
        StgraphError: fewer than three methods, or shapes that differ.
    """
    from scipy.stats import rankdata

    one, two = np.asarray(first, float), np.asarray(second, float)
    if one.shape != two.shape or one.ndim != 2 or len(one) < 3:
        raise StgraphError(f"a correlation needs two tables of at least 3 methods, got {one.shape} and {two.shape}")

    def statistic(index: NDArray[np.int64]) -> Floats:
        ranks = [rankdata(table[:, index].mean(-1), axis=0) for table in (one, two)]
        x, y = (rank - rank.mean(0) for rank in ranks)
        spread = np.sqrt((x**2).sum(0) * (y**2).sum(0))
        found: Floats = np.divide((x * y).sum(0), spread, out=np.zeros(len(spread)), where=spread > 0)
        return found

    return interval(one.shape[1], statistic, resamples=resamples, seed=seed)


def _outcomes(correct: ArrayLike) -> Floats:
    """(S, Q) from (Q,) or (S, Q)."""
    outcomes = np.atleast_2d(np.asarray(correct, float))
    if outcomes.ndim != 2 or np.isnan(outcomes).any():
        raise StgraphError(f"outcomes must be (questions,) or (models, questions) without gaps, got {outcomes.shape}")
    return outcomes


def _by_clip(outcomes: Floats, clip: ArrayLike) -> tuple[Floats, Floats]:
    """(S, K) sums and (K,) counts of the questions of each clip that has some."""
    numbers = np.asarray(clip)
    if numbers.shape != outcomes.shape[1:]:
        raise StgraphError(f"each of {outcomes.shape[1]} questions needs its clip, got {numbers.shape}")
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(place, weights=row, minlength=len(counts)) for row in outcomes]).astype(np.float64)
    return sums, counts.astype(np.float64)


def _share(sums: Floats, counts: Floats, seed: int) -> Callable[[NDArray[np.int64]], Floats]:
    """The share over drawn clips; of several models, as many are drawn anew for each replicate."""
    rng = np.random.default_rng([seed, 1])
    models = len(sums)

    def statistic(index: NDArray[np.int64]) -> Floats:
        shares = sums[:, index].sum(-1) / counts[index].sum(-1)  # (S, R)
        if models > 1 and len(index) > 1:
            drawn = rng.integers(0, models, (models, len(index)))
            shares = np.take_along_axis(shares, drawn, 0)
        return cast(Floats, shares.mean(0))

    return statistic


def words(found: Interval, *, scale: float = 100.0, digits: int = 1, sign: bool = False) -> str:
    """An interval as it stands in a table: ``"61.2 [58.9, 63.4]"``; ``scale`` 100 makes shares percent."""

    def number(value: float) -> str:
        rounded = round(value * scale, digits) + 0.0  # a rounded zero has no sign
        return f"{rounded:+.{digits}f}" if sign and rounded else f"{rounded:.{digits}f}"

    return f"{number(found.estimate)} [{number(found.low)}, {number(found.high)}]".replace("-", "−")
