"""The rules by which arms are pulled, and when one of them is chosen: gap-based, successive elimination, LUCB, uniform.

`identify` is a generator: it yields how many pulls of which arms it wants and is sent their rewards. Who pulls, and how, is
not its affair; so the same code runs over a federation and over a random number generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from fedsim.bandit.intervals import ESTIMATORS, UNKNOWN, Array, Estimator, Interval, Problem
from fedsim.plugins import Settings

Rule = Literal["gap", "elimination", "lucb", "uniform"]
Wanted = Mapping[int, int]
"""Pulls by arm."""
Given = Mapping[int, Array | None]
"""Their rewards, (n,) each; None of an arm that does not answer."""


class Search(Settings):
    """How arms are pulled and judged."""

    rule: Rule = Field(
        "gap",
        description="gap (UGapE): the leader and its challenger; elimination: all that may still be best; lucb; uniform",
    )
    estimator: Estimator = Field("trimmed", description="trimmed (mean) | median | mean (as if nobody lied)")
    eps: float = Field(0.05, ge=0, le=0.2, description="the probability that a reward is a lie")
    delta: float = Field(0.1, gt=0, lt=1, description="the probability of a wrong choice that is put up with")
    eta: float = Field(0.0, ge=0, description="how far below the best the chosen arm may be, in units of a reward")
    start: int = Field(30, ge=1, description="pulls of each arm before anything is judged")
    least: int = Field(10, ge=1, description="pulls in a block, at least")
    growth: float = Field(0.1, ge=0, description="and a block is at least this share of the arm's pulls so far")
    max_pulls: int = Field(200_000, ge=1, description="pulls of all arms together, after which nothing is decided")

    def block(self, pulls: int) -> int:
        """How many pulls come next of an arm that has had so many."""
        return max(self.least, math.ceil(self.growth * pulls))


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        arm: the chosen one; None: undecided, there were too many pulls or no arms left.
        pulls, intervals: of each arm.
        dropped: the arms that did not answer.
        history: after each block, the pulls of all arms together and the intervals of each.
    """

    arm: int | None
    pulls: tuple[int, ...]
    intervals: tuple[Interval, ...]
    dropped: frozenset[int]
    history: Sequence[tuple[int, tuple[Interval, ...]]]

    @property
    def total(self) -> int:
        """Pulls of all arms together."""
        return sum(self.pulls)


class Tally:
    """Rewards so far, and what they say.

    Attributes:
        rewards, intervals: of each arm.
        active: the arms that answer and have not been eliminated, in order.
        dropped: the arms that did not answer.
    """

    def __init__(self, problem: Problem, estimator: Estimator) -> None:
        self._problem, self._estimate = problem, ESTIMATORS[estimator]
        self.rewards = [np.empty(0) for _ in range(problem.arms)]
        self.intervals = [UNKNOWN] * problem.arms
        self.active = list(range(problem.arms))
        self.dropped: set[int] = set()

    @property
    def pulls(self) -> tuple[int, ...]:
        """How many rewards each arm has given."""
        return tuple(len(rewards) for rewards in self.rewards)

    def take(self, given: Given) -> None:
        """Add a block; arms that did not answer are out. One estimate an arm and block, none a pull."""
        for arm, rewards in given.items():
            if rewards is None:
                self.dropped.add(arm)
                self.active.remove(arm)
            else:
                self.rewards[arm] = np.concatenate([self.rewards[arm], rewards])
                self.intervals[arm] = self._estimate(self.rewards[arm], self._problem)

    def ahead(self, arm: int) -> float:
        """By how much another arm may be better than this one, at most (UGapE's B); without others, minus infinity."""
        others = [self.intervals[j].high for j in self.active if j != arm]
        return max(others, default=-math.inf) - self.intervals[arm].low

    def challenger(self, leader: int) -> int:
        """Who may be the best besides the leader."""
        return max((j for j in self.active if j != leader), key=lambda j: self.intervals[j].high)


Verdict = tuple[int | None, Sequence[int]]
"""The chosen arm, or None and the arms to pull next."""


def gap(tally: Tally, eta: float) -> Verdict:
    """Pull the arm that is least likely to be beaten and its challenger, or the one of them that is known worse."""
    leader = min(tally.active, key=tally.ahead)
    if tally.ahead(leader) < eta:
        return leader, ()
    rival = tally.challenger(leader)
    if len(tally.rewards[leader]) == len(tally.rewards[rival]):
        return None, (leader, rival)
    return None, (max(leader, rival, key=lambda i: tally.intervals[i].width),)


def elimination(tally: Tally, eta: float) -> Verdict:
    """Pull all arms that may still be the best."""
    most = max(tally.intervals[i].low for i in tally.active)
    tally.active = [i for i in tally.active if tally.intervals[i].high >= most]
    leader = max(tally.active, key=lambda i: tally.intervals[i].centre)
    return (leader, ()) if tally.ahead(leader) < eta else (None, tally.active)


def lucb(tally: Tally, eta: float) -> Verdict:
    """Pull the arm with the highest estimate and its challenger (Kalyanakrishnan et al., ICML 2012)."""
    leader = max(tally.active, key=lambda i: tally.intervals[i].centre)
    return (leader, ()) if tally.ahead(leader) < eta else (None, (leader, tally.challenger(leader)))


def uniform(tally: Tally, eta: float) -> Verdict:
    """Pull all arms, to the end."""
    leader = min(tally.active, key=tally.ahead)
    return (leader, ()) if tally.ahead(leader) < eta else (None, tally.active)


RULES: Mapping[Rule, Callable[[Tally, float], Verdict]] = {
    "gap": gap,
    "elimination": elimination,
    "lucb": lucb,
    "uniform": uniform,
}


def identify(problem: Problem, search: Search) -> Generator[Wanted, Given, Outcome]:
    """Search for the best arm; ``problem`` has the search's own eps and delta. See `Outcome` for what is returned.

    ``max_pulls`` is at least ``start`` for each arm.
    """
    tally, history = Tally(problem, search.estimator), list[tuple[int, tuple[Interval, ...]]]()
    wanted: Wanted = dict.fromkeys(range(problem.arms), search.start)
    chosen: int | None = None
    while chosen is None and sum(tally.pulls) + sum(wanted.values()) <= search.max_pulls:
        tally.take((yield wanted))
        history.append((sum(tally.pulls), tuple(tally.intervals)))
        if not tally.active:
            break
        chosen, arms = RULES[search.rule](tally, search.eta)
        wanted = {arm: search.block(len(tally.rewards[arm])) for arm in arms}
    return Outcome(chosen, tally.pulls, tuple(tally.intervals), frozenset(tally.dropped), history)


def run(problem: Problem, search: Search, pull: Callable[[int, int], Array | None]) -> Outcome:
    """`identify` with ``pull(arm, count)`` for the rewards, (count,)."""
    asking = identify(problem, search)
    wanted = next(asking)
    while True:
        try:
            wanted = asking.send({arm: pull(arm, count) for arm, count in wanted.items()})
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
