"""Intervals cover what they say: simulated for few values, held to those of scipy, and none for a value alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedsim.confidence import (
    estimate_difference,
    estimate_mean,
    estimate_outcomes,
    estimate_range,
    estimate_share,
)
from fedsim.report.words import estimate, how_certain, interval

DRAWS = 2000
NOISE = 4 * math.sqrt(0.95 * 0.05 / DRAWS)
"""Four standard errors of a simulated coverage: .019."""
numbers = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_interval_of_a_mean_covers_the_true_mean_in_95_of_100_cases(n: int) -> None:
    drawn = np.random.default_rng(n).normal(0.8, 0.05, (DRAWS, n))
    found = [estimate_mean(values) for values in drawn.tolist()]
    assert np.mean([each.low <= 0.8 <= each.high for each in found]) == pytest.approx(0.95, abs=NOISE)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_interval_of_a_difference_covers_it_and_gains_from_pairing(n: int) -> None:
    draw = np.random.default_rng(10 + n)
    seeds = draw.normal(0.7, 0.1, (DRAWS, n))  # what a seed does to both
    ones, others = seeds + 0.02 + draw.normal(0, 0.01, seeds.shape), seeds + draw.normal(0, 0.01, seeds.shape)
    found = [estimate_difference(one, other) for one, other in zip(ones.tolist(), others.tolist(), strict=True)]
    assert np.mean([each.low <= 0.02 <= each.high for each in found]) == pytest.approx(0.95, abs=NOISE)
    alone = [estimate_mean(one) for one in ones.tolist()]
    assert np.mean([each.high - each.low for each in found]) < 0.3 * np.mean([e.high - e.low for e in alone])


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("count", [5, 20, 200])
def test_the_interval_of_a_share_covers_it_at_least_as_often_as_it_says(share: float, count: int) -> None:
    """Exactly, by summing over all outcomes."""
    found = [estimate_share(k, count) for k in range(count + 1)]
    covered = sum(stats.binom.pmf(k, count, share) for k, each in enumerate(found) if each.low <= share <= each.high)
    assert covered >= 0.95
    assert all(0 <= each.low <= each.mean <= each.high <= 1 for each in found)


def test_the_interval_of_the_largest_difference_covers_it_for_equal_and_for_unequal_groups() -> None:
    draw, counts = np.random.default_rng(3), [300, 60, 25, 900]
    for shares in ([0.4, 0.4, 0.4, 0.4], [0.4, 0.5, 0.1, 0.45]):
        found = [estimate_range(drawn, counts) for drawn in draw.binomial(counts, shares, (400, 4)).tolist()]
        true = max(shares) - min(shares)
        assert np.mean([each.low <= true <= each.high for each in found]) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 400)
        assert all(0 <= each.low <= each.mean <= each.high <= 1 for each in found)


def test_of_two_groups_the_difference_is_newcombes() -> None:
    found = estimate_range([56, 48], [70, 80])  # his example (a), method 10
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(st.lists(numbers, min_size=2, max_size=12))
def test_the_interval_of_a_mean_is_that_of_scipys_test(values: list[float]) -> None:
    found = estimate_mean(values)
    assert (found.n, found.method) == (len(values), "student_t")
    assert found.low <= found.mean <= found.high
    if np.std(values) > 1e-9 * max(abs(value) for value in values):
        sure = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((sure.low, sure.high), rel=1e-6, abs=1e-6)


def test_the_interval_of_a_difference_is_that_of_scipys_paired_test() -> None:
    ones, others = [0.91, 0.88, 0.93, 0.90], [0.90, 0.85, 0.94, 0.86]
    found, sure = estimate_difference(ones, others, 0.9), stats.ttest_rel(ones, others).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((sure.low, sure.high))
    assert found.method == "paired_student_t"
    with pytest.raises(ValueError, match="the same seeds on both sides"):
        estimate_difference(ones, others[:3])


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    found = estimate_mean([0.25])
    assert (found.mean, found.n, found.has_interval) == (0.25, 1, False)
    assert math.isnan(found.low)
    assert not estimate_difference([0.25], [0.5]).has_interval
    with pytest.raises(ValueError, match="no values"):
        estimate_mean([])


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert estimate_mean([0.1, 0.1, 0.1])[:3] == (0.1, 0.1, 0.1)


def test_numbers_that_are_not_finite_have_no_interval() -> None:
    assert not estimate_mean([1.0, math.inf]).has_interval
    assert not estimate_mean([1.0, math.nan]).has_interval


def test_an_interval_may_leave_the_range_of_its_metric() -> None:
    found = estimate_mean([0.9, 1.0])
    assert found.high > 1


def test_outcomes_are_counted_and_nothing_but_0_and_1_is_one() -> None:
    assert estimate_outcomes([1.0, 0.0, 1.0, 1.0]) == estimate_share(3, 4)
    with pytest.raises(ValueError, match=r"0 or 1, not 0\.5"):
        estimate_outcomes([1.0, 0.5])
    with pytest.raises(ValueError, match="5 of 4"):
        estimate_share(5, 4)


def test_how_certain_a_table_is_stands_in_one_sentence() -> None:
    mean = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 5, "method": "student_t"}
    share = {"mean": 0.8, "low": 0.28, "high": 0.99, "n": 4, "method": "clopper_pearson"}
    alone = {"mean": 0.5, "low": None, "high": None, "n": 1, "method": "none"}
    assert how_certain([mean, share, alone], 0.95).startswith(
        "95 % confidence intervals (Student's t; Clopper-Pearson), n = 1 to 5; "
    )
    assert how_certain([alone], 0.95) == "n = 1: no intervals, which take two seeds or more."
    assert (estimate(mean), estimate(alone), estimate(None)) == (".500 (.400 to .600)", ".500", "–")
    assert interval({**mean, "low": -0.1}, signed=True) == "−.100 to +.600"
    assert interval(alone) == "n = 1, no interval"
