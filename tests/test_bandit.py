"""Best arm identification under lies: the bias term against exact integrals, the rules on arms with known means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from fedsim.bandit.intervals import Array, Problem, mean, median, spread, trimmed_mean
from fedsim.bandit.laws import Law, best, play
from fedsim.bandit.lies import EDGE, Liar, Lie, Memory
from fedsim.bandit.search import Estimator, Outcome, Rule, Search, run
from fedsim.seeding import Rng

GAUSSIAN = [Law(0.0), Law(0.0), Law(1.0), Law(0.0)]
SKEWED = [Law(1.2, "skewed"), *(Law(m, deviation=1.5) for m in (0.6, 0.6, 0.3, 0.3, 0.0))]
LIES: tuple[Lie, ...] = ("gross", "edge", "adaptive", "varying")


def problem(eps: float = 0.05, arms: int = 4, sigma: float = 1.0) -> Problem:
    return Problem(arms, sigma, eps, 0.1)


def exact_bias(eps: float) -> float:
    """Of the eps-trimmed mean of a standard Gaussian arm, a share eps of whose rewards is endless."""

    def share(x: float) -> float:
        return (1 - eps) * float(stats.norm.cdf(x))

    low = optimize.brentq(lambda x: share(x) - eps, -9, 9)
    high = optimize.brentq(lambda x: share(x) - (1 - eps), -9, 40) if share(40) > 1 - eps else math.inf
    total, _ = integrate.quad(lambda x: x * (1 - eps) * float(stats.norm.pdf(x)), low, min(high, 40))
    return total / (1 - 2 * eps)


@pytest.mark.parametrize("eps", [0.01, 0.02, 0.05, 0.1, 0.12, 0.15, 0.2])
def test_the_bias_term_covers_the_exact_worst_bias_of_a_gaussian_arm(eps: float) -> None:
    assert exact_bias(eps) < problem(eps).bias < 1.5 * exact_bias(eps)
    assert problem(eps, sigma=3.0).bias == pytest.approx(3 * problem(eps).bias)


def test_without_lies_there_is_no_bias() -> None:
    assert problem(0.0).bias == 0
    assert problem(0.0).separable == 0


@pytest.mark.parametrize("eps", [0.02, 0.1])
@pytest.mark.parametrize("lie", LIES)
def test_an_interval_holds_the_mean_at_all_times(eps: float, lie: Lie) -> None:
    """One miss at any of the looks is a miss: radii that hold at a fixed number of pulls only would fail this."""
    missed = 0
    for seed in range(40):
        rng = Rng.root(seed)
        rewards, _, _ = Liar(lie, eps, 1).tell(
            Law(0.5).draw(3000, rng.child("r").numpy()), Memory(), rng.child("l").numpy()
        )
        looks = [trimmed_mean(rewards[:n], problem(eps)) for n in range(30, 3000, 90)]
        missed += not all(look.low <= 0.5 <= look.high for look in looks)
    assert missed == 0


def test_a_plain_mean_is_dragged_off_and_a_trimmed_one_is_not() -> None:
    rewards, _, lies = Liar("gross", 0.05, 1).tell(
        Law(0.0).draw(5000, np.random.default_rng(0)), Memory(), np.random.default_rng(1)
    )
    assert 200 < lies < 300
    assert mean(rewards, problem()).low > 0.5
    assert abs(trimmed_mean(rewards, problem()).centre) < problem().bias


def test_a_median_has_an_interval_of_ranks_and_none_from_too_few() -> None:
    rewards = np.arange(10_000, dtype=float)
    few = median(rewards[:10], problem())
    assert (few.low, few.high) == (-math.inf, math.inf)
    many = median(rewards, problem())
    assert many.centre == 5000
    away = 10_000 * (0.025 + math.sqrt(problem().level(10_000) / 20_000))
    assert many.high - many.low == pytest.approx(2 * away, abs=2)


def test_quartiles_tell_the_deviation_whatever_a_few_say() -> None:
    honest = Law(2.0, deviation=3.0).draw(4000, np.random.default_rng(0))
    told, _, _ = Liar("gross", 0.05, 1).tell(honest, Memory(), np.random.default_rng(1))
    assert spread(told) == pytest.approx(3.0, rel=0.12)
    assert told.std() > 9


@pytest.mark.parametrize("kind", ["gaussian", "skewed", "bernoulli"])
def test_arms_have_the_means_they_say(kind: str) -> None:
    law = Law(0.3, kind)  # type: ignore[arg-type]
    assert law.draw(100_000, np.random.default_rng(0)).mean() == pytest.approx(0.3, abs=0.02)


def test_the_median_of_a_skewed_arm_is_far_below_its_mean() -> None:
    assert np.median(Law(1.2, "skewed").draw(100_000, np.random.default_rng(0))) == pytest.approx(0.29, abs=0.01)


# lies


@pytest.mark.parametrize(("law", "away"), [("gross", 20.0), ("edge", EDGE)])
@pytest.mark.parametrize("harm", [1, -1])
def test_lies_lie_where_their_law_says(law: Lie, away: float, harm: int) -> None:
    true = Law(1.0).draw(2000, np.random.default_rng(0))
    told, memory, lies = Liar(law, 0.1, harm).tell(true, Memory(), np.random.default_rng(1))
    changed = told[told != true]
    assert len(changed) == lies
    assert 150 < lies < 250
    assert changed == pytest.approx(true.mean() + harm * away * true.std())
    assert (memory.count, memory.least, memory.most) == (2000, true.min(), true.max())


def test_an_adaptive_lie_is_never_beyond_what_the_arm_has_truly_seen() -> None:
    true = Law(0.0).draw(500, np.random.default_rng(0))
    told, _, _ = Liar("adaptive", 0.2, 1).tell(true, Memory(), np.random.default_rng(1))
    assert told.max() == true.max()
    assert told.mean() > true.mean() + 0.3


def test_lies_that_vary_come_from_three_sides_in_turn() -> None:
    told, _, _ = Liar("varying", 1.0, 1, period=10).tell(np.array([0.0, 1.0] * 15), Memory(), np.random.default_rng(1))
    assert told == pytest.approx(np.repeat([0.5 + 10, 0.5 + EDGE / 2, 0.5 - 10], 10))


def test_a_liar_remembers_across_blocks() -> None:
    rewards = np.random.default_rng(0).normal(3, 2, 900)
    whole, parts = Memory().after(rewards), Memory()
    for part in np.split(rewards, [1, 50, 50, 700]):
        parts = parts.after(part)
    assert (parts.count, parts.least, parts.most) == (whole.count, whole.least, whole.most)
    assert (parts.mean, parts.deviation) == pytest.approx((rewards.mean(), rewards.std()))


# rules


def outcomes(
    laws: Sequence[Law], runs: int, lie: Lie | None = "gross", sigma: float = 1.0, **how: object
) -> list[Outcome]:
    return [play(laws, sigma, Search.model_validate(how), Rng.root(seed), lie) for seed in range(runs)]


def right(laws: Sequence[Law], found: Sequence[Outcome]) -> float:
    return sum(each.arm == best(laws) for each in found) / len(found)


def pulls(found: Sequence[Outcome]) -> float:
    return sum(each.total for each in found) / len(found)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("rule", ["gap", "elimination", "lucb", "uniform"])
def test_every_rule_finds_the_best_arm_on_trimmed_means(rule: Rule, lie: Lie) -> None:
    assert right(GAUSSIAN, outcomes(GAUSSIAN, 10, lie, rule=rule)) == 1.0


@pytest.mark.parametrize("rule", ["gap", "elimination", "lucb"])
def test_plain_means_fail_under_gross_lies_and_not_without(rule: Rule) -> None:
    assert right(GAUSSIAN, outcomes(GAUSSIAN, 10, rule=rule, estimator="mean", max_pulls=20_000)) == 0.0
    assert right(GAUSSIAN, outcomes(GAUSSIAN, 10, None, rule=rule, estimator="mean")) == 1.0


@pytest.mark.parametrize(("estimator", "expected"), [("trimmed", 1.0), ("median", 0.0)])
def test_medians_miss_a_skewed_arm(estimator: Estimator, expected: float) -> None:
    assert right(SKEWED, outcomes(SKEWED, 5, sigma=1.5, estimator=estimator, eps=0.02)) == expected


def test_fewer_pulls_where_fewer_arms_are_in_question() -> None:
    laws = [Law(1.0), *[Law(0.0)] * 5]
    found = {rule: pulls(outcomes(laws, 10, rule=rule)) for rule in ("gap", "elimination", "uniform")}
    assert found["gap"] < found["elimination"] < found["uniform"]


def test_arms_that_lies_make_inseparable_are_left_undecided_with_intervals() -> None:
    close = [Law(0.2), Law(0.0)]
    assert problem(0.05).separable > 0.2
    for rule in ("gap", "elimination", "lucb", "uniform"):
        (found,) = outcomes(close, 1, rule=rule, max_pulls=50_000)
        assert found.arm is None
        assert 40_000 < found.total <= 50_000
        assert all(
            interval.low < law.mean < interval.high for interval, law in zip(found.intervals, close, strict=True)
        )


def test_an_arm_as_good_as_the_best_will_do_where_eta_says_so() -> None:
    close = [Law(0.2), Law(0.0)]
    (found,) = outcomes(close, 1, eta=0.6, max_pulls=50_000)
    assert found.arm is not None


def pull_from(silent: Sequence[int], after: int = 0) -> Outcome:
    streams = [np.random.default_rng(i) for i in range(len(GAUSSIAN))]
    asked = dict.fromkeys(range(len(GAUSSIAN)), 0)

    def pull(arm: int, count: int) -> Array | None:
        asked[arm] += 1
        if arm in silent and asked[arm] > after:
            return None
        return GAUSSIAN[arm].draw(count, streams[arm])

    return run(problem(), Search.model_validate({}), pull)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_arm_that_falls_silent_is_dropped_and_changes_nothing_for_the_others(after: int) -> None:
    whole, found = pull_from([]), pull_from([0], after)
    assert (found.arm, found.dropped) == (2, frozenset({0}))
    for arm in (1, 2, 3):  # what is known of an arm after so many of its pulls is the same
        known = [list(dict.fromkeys(intervals[arm] for _, intervals in each.history)) for each in (whole, found)]
        both = min(map(len, known))
        assert known[0][:both] == known[1][:both]
        assert both > 1


def test_if_the_best_is_silent_the_best_of_the_others_would_do_and_none_if_all_are() -> None:
    assert pull_from([2]).dropped == frozenset({2})
    nobody = pull_from([0, 1, 2, 3])
    assert (nobody.arm, nobody.total) == (None, 0)
    assert pull_from([0, 1, 3]).arm == 2


def test_blocks_grow_so_that_estimates_are_few() -> None:
    stream, search = np.random.default_rng(0), Search.model_validate({"rule": "uniform"})
    found = run(problem(), search, lambda arm, count: stream.standard_normal(count))
    assert (found.arm, len(found.history) < 90) == (None, True)
    assert 150_000 < found.total <= search.max_pulls
