"""What an arm's rewards say of its mean (or median), at any time and whatever a share of them is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Estimator = Literal["trimmed", "median", "mean"]
MOST_TRIMMED = 0.45
"""The largest share of the rewards that is dropped at either end."""
MOST_EPS = 0.2
"""The largest share of lies for which the bias term was compared with the exact bias of a Gaussian arm."""


@dataclass(frozen=True)
class Problem:
    """What is known of the arms beforehand.

    Attributes:
        arms: how many there are (K).
        sigma: their sub-Gaussian parameter, in units of a reward.
        eps: the probability that a reward is a lie, at most `MOST_EPS`.
        delta: the probability of a wrong choice that is put up with.
    """

    arms: int
    sigma: float
    eps: float
    delta: float

    @property
    def bias(self) -> float:
        """What lies can move a trimmed mean by even with endless rewards, in units of a reward.

        Beyond .1 a quarter is added: there ``eps sqrt(2 log 1/eps)`` is less than the bias of a Gaussian arm.
        """
        if self.eps == 0:
            return 0.0
        return self.sigma * self.eps * math.sqrt(2 * math.log(1 / self.eps)) * (1.25 if self.eps > 0.1 else 1.0)

    @property
    def separable(self) -> float:
        """The gap between the best two means from which on intervals part even in the worst case."""
        return 4 * self.bias

    def level(self, n: int) -> float:
        """``L_n``: a union bound over arms, both sides and all times."""
        return math.log(4 * self.arms * n * n / self.delta)

    def trimmed(self, n: int) -> float:
        """The share dropped at either end of ``n`` rewards: eps and a slack, for more than eps of them may be lies."""
        level = self.level(n)
        slack = math.sqrt(2 * self.eps * (1 - self.eps) * level / n) + level / (3 * n)
        return min(MOST_TRIMMED, self.eps + slack)


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval, in units of a reward."""

    centre: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low


UNKNOWN = Interval(0.0, -math.inf, math.inf)
"""Of an arm that was never pulled."""


def trimmed_mean(rewards: Array, problem: Problem) -> Interval:
    """The mean of what is left of the rewards (n,) when both ends are dropped."""
    n = len(rewards)
    alpha = problem.trimmed(n)
    drop = min(math.ceil(alpha * n), (n - 1) // 2)
    kept = np.partition(rewards, (drop, n - drop - 1))[drop : n - drop]
    radius = problem.sigma * math.sqrt(2 * problem.level(n) / n) / math.sqrt(1 - 2 * alpha)
    return _around(float(kept.mean()), problem.bias + radius)


def median(rewards: Array, problem: Problem) -> Interval:
    """The median of the rewards (n,), between the ranks that hold the true one: Hoeffding, and eps / 2 either way."""
    n = len(rewards)
    away = problem.eps / 2 + math.sqrt(problem.level(n) / (2 * n))
    low, high = math.floor((0.5 - away) * n), math.ceil((0.5 + away) * n)
    inside = [rank for rank in (low, n // 2, high) if 0 <= rank < n]
    ordered = np.partition(rewards, inside)
    return Interval(
        float(ordered[n // 2]),
        float(ordered[low]) if low >= 0 else -math.inf,
        float(ordered[high]) if high < n else math.inf,
    )


def mean(rewards: Array, problem: Problem) -> Interval:
    """The plain mean of the rewards (n,), as if nobody lied."""
    return _around(float(rewards.mean()), problem.sigma * math.sqrt(2 * problem.level(len(rewards)) / len(rewards)))


def _around(centre: float, radius: float) -> Interval:
    return Interval(centre, centre - radius, centre + radius)


ESTIMATORS: Mapping[Estimator, Callable[[Array, Problem], Interval]] = {
    "trimmed": trimmed_mean,
    "median": median,
    "mean": mean,
}


def spread(rewards: Array) -> float:
    """The standard deviation of Gaussian rewards (n,) from their quartiles, which a few lies hardly move."""
    low, high = np.quantile(rewards, [0.25, 0.75])
    return float(high - low) / 1.349
