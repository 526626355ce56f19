"""What comes in the place of a reward when an arm lies or fails: the contamination of a bandit.

Lies are told by the one who knows the true rewards so far. They are aimed: a good arm's lies push its mean down, a bad arm's
push it up, for lies of both signs would cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedsim.bandit.intervals import Array

Lie = Literal["gross", "edge", "adaptive", "varying"]
EDGE = 2.5
"""How far from the mean a lie at the edge lies, in standard deviations: most honest rewards are nearer."""


@dataclass(frozen=True)
class Memory:
    """What a liar remembers of the true rewards: their number, mean, sum of squared deviations, and extremes."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    @property
    def deviation(self) -> float:
        """The standard deviation of the true rewards so far."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def after(self, rewards: Array) -> Memory:
        """With more of them, (n,): Chan et al., 1979."""
        if not (n := len(rewards)):
            return self
        mean, both = float(rewards.mean()), self.count + n
        away = mean - self.mean
        squares = self.squares + float(((rewards - mean) ** 2).sum()) + away**2 * self.count * n / both
        least, most = min(self.least, float(rewards.min())), max(self.most, float(rewards.max()))
        return Memory(both, self.mean + away * n / both, squares, least, most)


@dataclass(frozen=True)
class Liar:
    """Replaces each reward with probability ``share``.

    Attributes:
        law: ``gross``: ``size`` deviations from the mean; ``edge``: `EDGE` deviations; ``adaptive``: the most extreme of the
            true rewards so far, which no filter by value can tell from them; ``varying``: gross, edge, and gross the other
            way, for ``period`` rewards each.
        share: the probability of a lie.
        harm: 1 to push the mean up, -1 to push it down.
        size: of a gross lie, in deviations of the true rewards.
        period: of the law ``varying``, in rewards.
    """

    law: Lie
    share: float
    harm: int
    size: float = 20.0
    period: int = 100

    def tell(self, rewards: Array, before: Memory, rng: np.random.Generator) -> tuple[Array, Memory, int]:
        """What is told in the place of true rewards (n,), what is remembered afterwards, and how many lies there were."""
        lies = rng.random(len(rewards)) < self.share
        after = before.after(rewards)
        steps = np.arange(before.count, after.count)
        return np.where(lies, self._values(steps, after), rewards), after, int(lies.sum())

    def _values(self, steps: npt.NDArray[np.int64], memory: Memory) -> Array | float:
        gross = self.harm * self.size * memory.deviation
        edge = memory.mean + self.harm * EDGE * memory.deviation
        if self.law == "gross":
            return memory.mean + gross
        if self.law == "edge":
            return edge
        if self.law == "adaptive":
            return memory.most if self.harm > 0 else memory.least
        spell = steps // self.period % 3
        return np.select([spell == 0, spell == 1], [memory.mean + gross, edge], memory.mean - gross)
