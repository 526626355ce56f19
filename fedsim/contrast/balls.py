"""Attacks on inputs within a ball of the largest norm: projected sign steps, and the automatic step size of APGD.

What is climbed in is somebody else's affair: an attack proposes inputs and is told gradients and, for APGD, losses by row.
Both treat each row by itself, and each entry of it alike, so parties that hold slices of the same rows and are told the same
losses attack together as one attacker of the whole rows would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsim.seeding import Rng


@dataclass(frozen=True)
class Ball:
    """Inputs within ``eps`` of ``centre`` (n, ...) in every entry, and within [0, 1]."""

    centre: Tensor
    eps: float

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the ball."""
        return torch.maximum(torch.minimum(x, self.centre + self.eps), self.centre - self.eps).clamp(0, 1)

    def drawn(self, rng: Rng) -> Tensor:
        """An even draw."""
        noise = 2 * torch.rand(self.centre.shape, generator=rng.torch()) - 1
        return self.project(self.centre + self.eps * noise)

    def stepped(self, x: Tensor, g: Tensor, step: float) -> Tensor:
        """Projected sign step upwards (Madry et al., ICLR 2018)."""
        return self.project(x + step * g.sign())


class Pgd:
    """Projected sign steps of one size; ``x`` is where to look next."""

    def __init__(self, ball: Ball, start: Tensor, step: float) -> None:
        self.ball, self.x, self._step = ball, start, step

    def told(self, g: Tensor, losses: Tensor) -> None:
        """The gradient at ``x``, of its shape; losses are not needed."""
        self.x = self.ball.stepped(self.x, g, self._step)


class Apgd:
    """Auto-PGD: momentum, and a step that halves, row by row, where the climb falters, from the best point so far.

    Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks, ICML 2020,
    algorithm 1: first step 2 eps, momentum .75, checkpoints at .22, .41, ... of the steps, rho .75.
    """

    def __init__(self, ball: Ball, start: Tensor, steps: int) -> None:
        self.ball, self.x = ball, start
        rows = len(start)
        self._marks, self._done = checkpoints(steps), 0
        self._step = torch.full((rows,), 2 * ball.eps)
        self._before, self._best, self._best_g = start, start, torch.zeros_like(start)
        self._highest = torch.full((rows,), -torch.inf)
        self._at_mark = torch.full((rows,), -torch.inf)
        self._last = torch.full((rows,), torch.inf)
        self._rises, self._since = torch.zeros(rows), 0
        self._halved = torch.ones(rows, dtype=torch.bool)

    def told(self, g: Tensor, losses: Tensor) -> None:
        """The gradient at ``x``, of its shape, and what is climbed in, (n,)."""
        better = losses > self._highest
        self._highest = torch.where(better, losses, self._highest)
        self._best = torch.where(_over(better, g), self.x, self._best)
        self._best_g = torch.where(_over(better, g), g, self._best_g)
        if self._done:
            self._rises += losses > self._last
            self._since += 1
        else:
            self._at_mark = self._highest.clone()
        self._last = losses
        if self._done in self._marks[1:]:
            g = self._checked(g)
        momentum = 0.75 if self._done else 1.0
        stepped = self.ball.project(self.x + _over(self._step, g) * g.sign())
        ahead = self.x + momentum * (stepped - self.x) + (1 - momentum) * (self.x - self._before)
        self._before, self.x = self.x, self.ball.project(ahead)
        self._done += 1

    def _checked(self, g: Tensor) -> Tensor:
        """At a checkpoint: rows that falter halve their step and go back to their best; the gradient to go on with."""
        falters = self._rises < 0.75 * self._since
        stuck = ~self._halved & (self._highest <= self._at_mark)
        halve = falters | stuck
        self._step = torch.where(halve, self._step / 2, self._step)
        self.x = torch.where(_over(halve, g), self._best, self.x)
        self._halved, self._at_mark = halve, self._highest.clone()
        self._rises, self._since = torch.zeros_like(self._rises), 0
        return torch.where(_over(halve, g), self._best_g, g)


def checkpoints(steps: int) -> list[int]:
    """The steps at which APGD looks back: p_0 = 0, p_1 = .22, each gap .03 less than the one before and at least .06."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return [math.ceil(round(share * steps, 6)) for share in shares if share <= 1]


def _over(values: Tensor, like: Tensor) -> Tensor:
    """Values by row (n,), to be broadcast over ``like``."""
    return values.view(-1, *[1] * (like.ndim - 1))
