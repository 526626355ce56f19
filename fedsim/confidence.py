"""Confidence intervals, by scipy: Student's t for a mean, paired for a difference, Clopper-Pearson for a share.

A mean of n runs has n - 1 degrees of freedom, so an interval of few seeds is wide: at n = 2 it reaches 12.7 standard errors to
either side. (A percentile bootstrap is as wide as the two values are apart, and covers the true mean in half of all cases.)
Intervals are not clipped to the range of a metric: one that reaches beyond 0 or 1 says that there are too few runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

LEVEL = 0.95
"""The share of intervals that hold the true value."""
Method = Literal["student_t", "paired_student_t", "clopper_pearson", "wilson", "newcombe", "none"]
METHODS: dict[str, str] = {
    "student_t": "Student's t",
    "paired_student_t": "Student's t of the differences, paired by seed",
    "clopper_pearson": "Clopper-Pearson",
    "wilson": "Wilson",
    "newcombe": "Newcombe, for the largest of all differences",
    "none": "no interval",
}
"""What each method is called in prose."""


class Estimate(NamedTuple):
    """A mean with its confidence interval.

    Attributes:
        mean: of the values.
        low, high: ends of the interval, NaN where there is none.
        n: how many values it is made from.
        method: how the interval was computed; "none" where it was not.
    """

    mean: float
    low: float
    high: float
    n: int
    method: Method

    @property
    def has_interval(self) -> bool:
        """Whether there were enough values for an interval."""
        return self.method != "none"


def estimate_mean(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The mean and its Student's t interval; a single value has no interval.

    Equal values have an interval of no width: nothing in them says how far another one might lie.

    Args:
        values: independent of each other, one a seed (or another unit that is drawn anew).
        level: of the interval.

    Raises:
        ValueError: there is no value.
    """
    from scipy import stats

    numbers = [float(value) for value in values]
    if not numbers:
        raise ValueError("no values: a mean takes one, an interval two")
    if len(numbers) == 1 or not all(map(math.isfinite, numbers)):
        return Estimate(sum(numbers) / len(numbers), math.nan, math.nan, len(numbers), "none")
    equal = min(numbers) == max(numbers)  # their mean is one of them, which a rounded sum may miss
    mean = numbers[0] if equal else math.fsum(numbers) / len(numbers)
    error = 0.0 if equal else float(stats.sem(numbers))
    reach = error * float(stats.t.ppf((1 + level) / 2, len(numbers) - 1))
    return Estimate(mean, mean - reach, mean + reach, len(numbers), "student_t")


def estimate_difference(ones: Sequence[float], others: Sequence[float], level: float = LEVEL) -> Estimate:
    """The mean of ``ones`` less that of ``others``, and its paired Student's t interval.

    Args:
        ones: by seed.
        others: of the same seeds in the same order.
        level: of the interval.

    Raises:
        ValueError: they are not of the same number of seeds.
    """
    if len(ones) != len(others):
        raise ValueError(
            f"{len(ones)} and {len(others)} values: a paired difference takes the same seeds on both sides"
        )
    found = estimate_mean([one - other for one, other in zip(ones, others, strict=True)], level)
    return found._replace(method="paired_student_t") if found.has_interval else found


def estimate_share(successes: int, count: int, level: float = LEVEL) -> Estimate:
    """The share of runs or rows that succeed, and its exact (Clopper-Pearson) interval, which stays within 0 and 1.

    Args:
        successes: how many of them did.
        count: of independent runs or rows.
        level: of the interval.

    Raises:
        ValueError: not 0 to ``count`` of at least one.
    """
    from scipy import stats

    if not 0 <= successes <= count or count < 1:
        raise ValueError(f"{successes} of {count}: a share takes 0 to n of at least one")
    sure = stats.binomtest(successes, count).proportion_ci(level, method="exact")
    return Estimate(successes / count, float(sure.low), float(sure.high), count, "clopper_pearson")


def estimate_outcomes(outcomes: Sequence[float], level: float = LEVEL) -> Estimate:
    """The share of ones among outcomes that are 0 or 1 each, one a run.

    Raises:
        ValueError: an outcome is neither, or there is none.
    """
    if strange := [value for value in outcomes if value not in (0, 1)]:
        raise ValueError(f"an outcome is 0 or 1, not {strange[0]}")
    return estimate_share(int(sum(outcomes)), len(outcomes), level)


def estimate_range(successes: Sequence[int], counts: Sequence[int], level: float = LEVEL) -> Estimate:
    """The largest less the smallest share of several groups, with an interval that allows for the choice of the two.

    The interval of each pair's difference is Newcombe's (method 10, from Wilson's intervals of both shares), at a level that
    holds for all pairs at once (Bonferroni). Where no group differs from another, its lower end is 0, which no bootstrap of
    a range reaches. Newcombe, Interval estimation for the difference between independent proportions, Statist. Med. 1998.

    Args:
        successes: in each group.
        counts: rows of each group; a group without rows has the share 0 and may have any.
        level: of the interval.

    Raises:
        ValueError: fewer than two groups.
    """
    if len(counts) < 2:
        raise ValueError(f"{len(counts)} groups: a difference takes two")
    pairs = len(counts) * (len(counts) - 1) // 2
    each = [_wilson(k, n, 1 - (1 - level) / pairs) for k, n in zip(successes, counts, strict=True)]
    low = high = 0.0
    for one, other in itertools.permutations(each, 2):
        gap = one.mean - other.mean
        low = max(low, gap - math.hypot(one.mean - one.low, other.high - other.mean))
        high = max(high, gap + math.hypot(one.high - one.mean, other.mean - other.low))
    means = [estimate.mean for estimate in each]
    return Estimate(max(means) - min(means), low, min(high, 1.0), sum(counts), "newcombe")


def _wilson(successes: int, count: int, level: float) -> Estimate:
    from scipy import stats

    if not count:
        return Estimate(0.0, 0.0, 1.0, 0, "wilson")
    sure = stats.binomtest(successes, count).proportion_ci(level, method="wilson")
    return Estimate(successes / count, float(sure.low), float(sure.high), count, "wilson")
