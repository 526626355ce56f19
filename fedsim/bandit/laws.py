"""Arms to try a search on: each a law of rewards with a known mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedsim.bandit.intervals import Array, Problem
from fedsim.bandit.lies import Liar, Lie, Memory
from fedsim.bandit.search import Outcome, Search, run
from fedsim.seeding import Rng

RARE = 0.4
"""How often an arm of the skewed law gives more than noise."""


@dataclass(frozen=True)
class Law:
    """How an arm's rewards fall.

    Attributes:
        mean: of a reward.
        kind: ``gaussian``; ``skewed``: noise of deviation ``noise`` around 0, and in `RARE` of the pulls around the same
            value beyond it, so that the median is near 0; ``bernoulli``: 0 or 1.
        deviation: of a Gaussian reward.
        noise: of a skewed one.
    """

    mean: float
    kind: Literal["gaussian", "skewed", "bernoulli"] = "gaussian"
    deviation: float = 1.0
    noise: float = 0.3

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Rewards, (count,)."""
        if self.kind == "gaussian":
            return self.mean + self.deviation * rng.standard_normal(count)
        if self.kind == "bernoulli":
            return (rng.random(count) < self.mean).astype(np.float64)
        high = rng.random(count) < RARE
        return np.where(high, self.mean / RARE, 0.0) + self.noise * rng.standard_normal(count)


def best(laws: Sequence[Law]) -> int:
    """The arm with the highest mean."""
    return max(range(len(laws)), key=lambda i: laws[i].mean)


def play(
    laws: Sequence[Law], sigma: float, search: Search, rng: Rng, lie: Lie | None = None, size: float = 20.0
) -> Outcome:
    """One search over arms that lie with the search's own probability, the best one downward and the others upward.

    Args:
        laws: of the arms; each draws from a stream of its own, whatever the order of the pulls.
        sigma: the sub-Gaussian parameter that the search is told.
        search: the rule, its eps and delta.
        rng: the node of this run.
        lie: how lies look; None: nobody lies.
        size: of gross lies.
    """
    top = best(laws)
    liars = [Liar(lie, search.eps, -1 if i == top else 1, size) if lie else None for i in range(len(laws))]
    memories = [Memory() for _ in laws]
    streams = [(rng.child("rewards", i).numpy(), rng.child("lies", i).numpy()) for i in range(len(laws))]

    def pull(arm: int, count: int) -> Array:
        true, lying = streams[arm]
        rewards, liar = laws[arm].draw(count, true), liars[arm]
        if liar is None:
            return rewards
        told, memories[arm], _ = liar.tell(rewards, memories[arm], lying)
        return told

    return run(Problem(len(laws), sigma, search.eps, search.delta), search, pull)
