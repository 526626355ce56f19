"""Alternating projected gradient descent and ascent: a perturbation goes down in the losses of K domains, their weights go up.

`attack` is a generator: it yields perturbations to try and is sent what each domain makes of them. Who asks whom is not its
affair, so the same code runs over a federation and over plain functions.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.minmax.balls import Ball
from fedsim.minmax.simplex import ascend, worst
from fedsim.plugins import Settings
from fedsim.seeding import Rng

Rule = Literal["minmax", "average", "clipped", "prior", "static", "without"]


class Weighing(Settings):
    """How the losses of several domains become one, and how long the attack goes on."""

    rule: Rule = Field(
        "minmax",
        description="minmax: weights of each example that go up where it fails; average; clipped: the average of losses down "
        "to `floor`; prior: `weights`; static: the mean weights that minmax ends with; without: the average but for `left_out`",
    )
    gamma: float = Field(3.0, ge=0, description="how strongly weights are held together; 0: the worst domain alone")
    beta: float = Field(50.0, gt=0, description="inverse length of a step of the weights")
    inner: Literal["step", "exact"] = Field("step", description="weights take a step, or the best place at once")
    floor: float = Field(4.0, ge=0, description="of clipped: the loss below which a domain pulls no more")
    weights: dict[str, float] = Field({}, description="of prior: by domain")
    left_out: str = Field("", description="of without: the domain")
    kappa: float = Field(5.0, ge=0, description="by how much a wrong class is to lead before a domain is done with")
    iterations: int = Field(50, ge=1, description="steps of the perturbation")
    start: float = Field(0.1, ge=0, description="standard deviation of the perturbation at the start")


@dataclass(frozen=True)
class Trying:
    """What to ask of every domain: which examples, (m,) int64, and their perturbations, (m, D)."""

    rows: Tensor
    delta: Tensor


@dataclass(frozen=True)
class Told:
    """What they say: margins of the true class (K, m), negative where it has lost, and their gradients, (K, m, D)."""

    margins: Tensor
    gradients: Tensor


@dataclass(frozen=True)
class Found:
    """How an attack ended.

    Attributes:
        delta: (n, D).
        weights: of each domain for each example, (K, n).
        losses: likewise; 0 where a wrong class leads by kappa.
        along: after each step, the mean weights (K,), and the share of examples that every domain gets wrong.
    """

    delta: Tensor
    weights: Tensor
    losses: Tensor
    along: Sequence[tuple[Tensor, float]]


def attack(
    low: Tensor, high: Tensor, ball: Ball, plan: Weighing, start: Tensor, rng: Rng
) -> Generator[Trying, Told, Found]:
    """Perturbations of n examples at once, each with its own weights.

    An example whose gradient is nothing in every domain that counts moves no more, and is not asked about again.

    Args:
        low, high: the box of each perturbation, (n, D), around 0.
        ball: where they lie.
        plan: how domains are weighed.
        start: the weights at the start, (K,); they stay, unless the rule is minmax.
        rng: of the perturbation at the start.
    """
    moves, floor = plan.rule == "minmax", plan.floor if plan.rule == "clipped" else 0.0
    noise = torch.randn(low.shape, generator=rng.child("start").torch()) * plan.start
    delta = ball.project(noise, low, high)
    weights = start[:, None].repeat(1, len(low))
    losses, lost = torch.zeros_like(weights), torch.zeros(weights.shape, dtype=torch.bool)
    along, rows = list[tuple[Tensor, float]](), torch.arange(len(low))
    for step in range(plan.iterations + 1):
        told = yield Trying(rows, delta[rows])
        losses[:, rows], lost[:, rows] = (told.margins + plan.kappa).clamp_min(0), told.margins < 0
        if moves and step:
            weights[:, rows] = _heavier(weights[:, rows], losses[:, rows], plan)
        along.append((weights.mean(dim=1), float(lost.all(dim=0).double().mean())))
        pulls = losses[:, rows] > floor
        counts = (pulls & ((weights[:, rows] > 0) | moves)).any(dim=0)
        if step == plan.iterations or not counts.any():
            break
        g = ((weights[:, rows] * pulls)[:, :, None] * told.gradients).sum(dim=0)
        moved = delta[rows] - ball.move(g)
        delta[rows[counts]] = ball.project(moved[counts], low[rows[counts]], high[rows[counts]])
        rows = rows[counts]
    return Found(delta, weights, losses, along)


def _heavier(weights: Tensor, losses: Tensor, plan: Weighing) -> Tensor:
    if plan.inner == "exact":
        return worst(losses, plan.gamma)
    return ascend(weights, losses, plan.gamma, plan.beta)
