"""Steps I and II of CAFE with the paper's optimisers: stochastic gradient descent for v, Adam for h.

In the paper ``sum_{n in S_t} v_n`` is the gradient of the bias, so that its v_n has the batch's 1 / B in it; here v_n is the
gradient of the row's own loss, B times as much. Rates and starts below are the paper's, translated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsim.scenarios.attacks._recover import Equations, Solver, unit_rows
from fedsim.seeding import Rng
from fedsim.threat import Tell

BETAS, EPSILON = (0.9, 0.999), 1e-12
"""Of Adam; the authors' epsilon of 1e-7 presumes the scale of their gradients."""
V_START, H_START = 8e-4, 8e-2
"""Starts are uniform: v in [-V_START, V_START] (the paper's v), h in [0, H_START]."""
OFTEN = 100
"""Iterations between two reports of progress."""


@dataclass(frozen=True)
class Descent:
    """How both steps descend.

    Attributes:
        v_lr: rate of step I; ``1 - 2 v_lr B`` of a round's error is left after its update, so it must be below 1 / B.
        v_iterations: rounds that step I goes through, drawn at random from those that were seen.
        h_lr: rate of step II.
        h_iterations: iterations of step II.
    """

    v_lr: float
    v_iterations: int
    h_lr: float
    h_iterations: int


@dataclass(frozen=True)
class Moments:
    """Adam's moments, (N, ...) each, of rows that are visited now and then, and the visits of each row, (N,)."""

    mean: Tensor
    square: Tensor
    visits: Tensor

    @staticmethod
    def of(at: Tensor) -> Moments:
        """Before the first visit."""
        return Moments(torch.zeros_like(at), torch.zeros_like(at), torch.zeros(len(at), dtype=torch.int64))

    def step(self, at: Tensor, rows: Tensor, slope: Tensor, lr: float) -> tuple[Tensor, Moments]:
        """``at`` (N, ...) after one update of ``rows`` (B,) along ``slope`` (B, ...), and the moments after it."""
        b1, b2 = BETAS
        visits = self.visits[rows] + 1
        age = visits.view(-1, *[1] * (at.ndim - 1)).double()
        mean = torch.lerp(slope, self.mean[rows], b1)
        square = torch.lerp(slope.square(), self.square[rows], b2)
        down = (mean / (1 - b1**age)) / ((square / (1 - b2**age)).sqrt() + EPSILON)
        after = Moments(
            self.mean.index_copy(0, rows, mean),
            self.square.index_copy(0, rows, square),
            self.visits.index_copy(0, rows, visits),
        )
        return at.index_add(0, rows, down.to(at.dtype), alpha=-lr), after


def start_v(rows: int, units: int, batch: float, rng: Rng) -> Tensor:
    """V (N, d2) to begin with."""
    return V_START * batch * (2 * torch.rand((rows, units), generator=rng.child("v").torch()) - 1)


def start_h(rows: int, inputs: int, rng: Rng) -> Tensor:
    """H (N, d1) to begin with."""
    return H_START * torch.rand((rows, inputs), generator=rng.child("h").torch())


def iterative(settings: Descent, rng: Rng, tell: Tell) -> Solver:
    """Both steps by descent.

    Step I goes through single rounds, as in the paper. Step II would have to keep their weight gradients, T of (d2, d1), for
    that; it descends on the sums over all rounds instead, so that every iteration follows the whole gradient of ``F2``.
    """

    def solve(given: Equations) -> tuple[Tensor, Tensor, int]:
        v = _first(given, settings, rng, lambda done: tell(done / 2))
        _, size = unit_rows(v)
        h = _second(*given.second(v), settings, rng, lambda done: tell((1 + done) / 2))
        return v, torch.where(size > 0, h.double(), size), int(torch.linalg.matrix_rank(given.member))

    return solve


def _first(given: Equations, settings: Descent, rng: Rng, tell: Tell) -> Tensor:
    rounds = [members.nonzero().flatten() for members in given.member]
    sizes = [len(rows) for rows in rounds]
    v = start_v(len(given.rows), given.biases.shape[1], sum(sizes) / len(sizes), rng).double()
    order = torch.randint(len(rounds), (settings.v_iterations,), generator=rng.child("order").torch())
    for i, t in enumerate(order.tolist()):
        rows = rounds[t]
        share = given.member[t, rows]
        off = given.biases[t] - share @ v[rows]
        v.index_add_(0, rows, torch.outer(share, off), alpha=2 * settings.v_lr * sizes[t] ** 2)
        if i % OFTEN == 0:
            tell(i / settings.v_iterations)
    return v


def _second(normal: Tensor, right: Tensor, settings: Descent, rng: Rng, tell: Tell) -> Tensor:
    """H (n, d1) by Adam on ``h' M h / 2 - h' q``."""
    scale = normal.diagonal().mean().clamp_min(1e-300)  # Adam sees no scale but for its epsilon
    normal, right = (normal / scale).float(), (right / scale).float()
    h = start_h(right.shape[0], right.shape[1], rng)
    mean, square, (b1, b2) = torch.zeros_like(h), torch.zeros_like(h), BETAS
    for i in range(1, settings.h_iterations + 1):
        slope = torch.addmm(right, normal, h, beta=-1)
        mean.lerp_(slope, 1 - b1)
        square.mul_(b2).addcmul_(slope, slope, value=1 - b2)
        h.addcdiv_(mean, (square / (1 - b2**i)).sqrt_().add_(EPSILON), value=-settings.h_lr / (1 - b1**i))
        if i % OFTEN == 0:
            tell(i / settings.h_iterations)
    return h
