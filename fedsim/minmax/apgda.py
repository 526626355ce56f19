"""Alternating projected gradient descent and ascent: a perturbation goes down in the losses of K domains, their weights go up.

`Apgda` says which perturbations to try and is told what each domain makes of them. Who asks whom is not its affair, so the same
code runs over a federation and over plain functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
    along: tuple[tuple[Tensor, float], ...]


class Apgda:
    """Perturbations of n examples at once, each with its own weights (`fedsim.state.Lasting`).

    Until it is ``over``, every domain is asked what it makes of ``trying``, and what they say goes to `told`; then there is
    ``found``. An example whose gradient is nothing in every domain that counts moves no more, and is not asked about again.

    Attributes:
        over: whether nothing is left to ask.
    """

    def __init__(self, low: Tensor, high: Tensor, ball: Ball, plan: Weighing, start: Tensor, rng: Rng) -> None:
        """Begin at a random place.

        Args:
            low, high: the box of each perturbation, (n, D), around 0.
            ball: where they lie.
            plan: how domains are weighed.
            start: the weights at the start, (K,); they stay, unless the rule is minmax.
            rng: of the perturbation at the start.
        """
        self._low, self._high, self._ball, self._plan = low, high, ball, plan
        noise = torch.randn(low.shape, generator=rng.child("start").torch()) * plan.start
        self._delta = ball.project(noise, low, high)
        self._weights = start[:, None].repeat(1, len(low))
        self._losses = torch.zeros_like(self._weights)
        self._lost = torch.zeros(self._weights.shape, dtype=torch.bool)
        self._along, self._rows = list[tuple[Tensor, float]](), torch.arange(len(low))
        self.over = False

    @property
    def trying(self) -> Trying:
        """What to ask next."""
        return Trying(self._rows, self._delta[self._rows])

    @property
    def found(self) -> Found:
        """How far it has come."""
        return Found(self._delta, self._weights, self._losses, tuple(self._along))

    @property
    def share(self) -> float:
        """How much of it is behind, from 0 to 1."""
        return 1.0 if self.over else len(self._along) / (self._plan.iterations + 1)

    def told(self, told: Told) -> None:
        """Take what the domains say, move the weights, then the perturbations."""
        plan, rows, step = self._plan, self._rows, len(self._along)
        moves, floor = plan.rule == "minmax", plan.floor if plan.rule == "clipped" else 0.0
        losses, self._lost[:, rows] = (told.margins + plan.kappa).clamp_min(0), told.margins < 0
        self._losses[:, rows] = losses
        if moves and step:
            self._weights[:, rows] = _heavier(self._weights[:, rows], losses, plan)
        self._along.append((self._weights.mean(dim=1), float(self._lost.all(dim=0).double().mean())))
        weights, pulls = self._weights[:, rows], losses > floor
        counts = (pulls & ((weights > 0) | moves)).any(dim=0)
        self.over = step == plan.iterations or not bool(counts.any())
        if self.over:
            return
        g = ((weights * pulls)[:, :, None] * told.gradients).sum(dim=0)
        moved = self._delta[rows] - self._ball.move(g)
        self._rows = rows[counts]
        self._delta[self._rows] = self._ball.project(moved[counts], self._low[self._rows], self._high[self._rows])

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        tensors = {"delta": self._delta, "weights": self._weights, "losses": self._losses, "lost": self._lost}
        return {**tensors, "rows": self._rows, "along": tuple(self._along), "over": self.over}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self._delta, self._weights, self._losses = state["delta"], state["weights"], state["losses"]
        self._lost, self._rows, self.over = state["lost"], state["rows"], state["over"]
        self._along = list(state["along"])


def _heavier(weights: Tensor, losses: Tensor, plan: Weighing) -> Tensor:
    if plan.inner == "exact":
        return worst(losses, plan.gamma)
    return ascend(weights, losses, plan.gamma, plan.beta)
