"""Step III of CAFE with all terms of the paper's objective, round by round.

Of a round with batch S, its rows x, their recovered h and the gradient t_l of each parameter that was sent,

    F3 = alpha sum_l |t_l - c_l(x)|^2 / sum_l |t_l|^2  +  mean_{n in S} beta TV(x_n) + gamma |h(x_n) - h_n|^2 / |h_n|^2

with c_l(x) the gradient that the rows would send, TV a sum over neighbours, active only while its mean over S exceeds xi. The
paper has absolute distances, sums over S, and the coefficients alpha 1e-2, beta 1e-4, gamma 1e-3, xi 25; there, the weight
of the first term against the last is ``alpha |t|^2 / (gamma sum |h_n|^2)`` in these relative ones. Only ratios of
coefficients matter to Adam.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedsim.scenarios.attacks._descent import Moments
from fedsim.scenarios.attacks._disclosed import ends_in_relu, layers_before
from fedsim.scenarios.attacks._invert import distance, total_variation
from fedsim.scenarios.attacks._matching import Matching
from fedsim.scenarios.attacks._matching import distance as gradients_apart
from fedsim.seeding import Rng
from fedsim.threat import Tell


@dataclass(frozen=True)
class Objective:
    """The terms' weights, how distances are taken (see `_invert`, `_matching`), and Adam's rate."""

    alpha: float
    beta: float
    gamma: float
    xi: float
    matching: Literal["l2", "cosine"]
    lr: float


@dataclass(frozen=True)
class Whole:
    """A round with the gradients of all parameters, by name.

    Attributes:
        rows: who was in the batch, (B,).
        grads: by name.
        g: gradients of the embeddings, (B, E); None: they are looked for.
    """

    rows: Tensor
    grads: Mapping[str, Tensor]
    g: Tensor | None


@dataclass(frozen=True)
class Firsts:
    """Of a stretch of rounds, how many there were and those that brought new rows; none if there is nothing to ``keep``.

    Attributes:
        known: the rows of the kept rounds, (N,) bool.
    """

    known: Tensor
    keep: bool = True
    count: int = 0
    rounds: tuple[Whole, ...] = ()

    def __len__(self) -> int:
        return self.count

    def add(self, new: Whole) -> Firsts:
        """The stretch after one more round."""
        more = replace(self, count=self.count + 1)
        if not self.keep or bool(self.known[new.rows].all()):
            return more
        return replace(more, known=self.known.index_fill(0, new.rows, True), rounds=(*self.rounds, new))


@dataclass(frozen=True)
class Search:
    """Where the search for rows is.

    Attributes:
        x: the rows, (N, *shape).
        g: gradients of the embeddings where they are looked for, (N, E), in units of ``unit``, but for the batch's mean.
        unit: the length of the first round's mean gradient of the embeddings; 0: there was none.
    """

    x: Tensor
    x_moments: Moments
    g: Tensor
    g_moments: Moments
    unit: float = 0.0

    @staticmethod
    def of(x: Tensor, embedding: int, rng: Rng) -> Search:
        """From rows ``x``."""
        g = torch.randn((len(x), embedding), generator=rng.child("g").torch())
        return Search(x, Moments.of(x), g, Moments.of(g))


def step(
    search: Search, seen: Whole, h: Tensor, bottom: nn.Sequential, layer: str, objective: Objective, lr: float
) -> Search:
    """After one update of a round's rows; ``h`` (B, d1) is what the layer should read of them; their places are in ``seen``."""
    rows = seen.rows
    if objective.alpha and seen.g is None and not search.unit:
        search = replace(search, unit=float(_mean(seen).norm()))
    x, free = search.x[rows].requires_grad_(True), search.g[rows].requires_grad_(True)
    value = _value(x, free, search.unit, seen, h, bottom, layer, objective)
    down_x, down_g = torch.autograd.grad(value, (x, free), allow_unused=True)
    moved, moments = search.x_moments.step(search.x, rows, down_x.nan_to_num(0.0), lr)
    if moved.ndim == 4:
        moved = moved.clamp(0, 1)
    search = replace(search, x=moved, x_moments=moments)
    if down_g is None:
        return search
    g, moments = search.g_moments.step(search.g, rows, down_g.nan_to_num(0.0), lr)
    return replace(search, g=g, g_moments=moments)


def refine(
    x: Tensor,
    h: Tensor,
    rounds: Sequence[Whole],
    bottom: nn.Sequential,
    layer: str,
    objective: Objective,
    passes: int,
    rng: Rng,
    tell: Tell,
) -> tuple[Tensor, float, float]:
    """Rows (n, *shape) that lower the objective over rounds on one model, from ``x``; its mean before and after, without TV.

    Goes through the rounds ``passes`` times; the rate falls to 0 along a cosine, the weight of the total variation linearly.
    """
    search, plain = Search.of(x, bottom(x[:1]).shape[1], rng), replace(objective, beta=0.0)
    before = _mean_value(search, rounds, h, bottom, layer, plain)
    for i in range(passes):
        lr = objective.lr * 0.5 * (1 + math.cos(math.pi * i / passes))
        fading = replace(objective, beta=objective.beta * (1 - i / passes))
        for seen in rounds:
            search = step(search, seen, h[seen.rows], bottom, layer, fading, lr)
        tell(i / passes)
    return search.x, before, _mean_value(search, rounds, h, bottom, layer, plain)


def _value(
    x: Tensor,
    free: Tensor,
    unit: float,
    seen: Whole,
    h: Tensor,
    bottom: nn.Sequential,
    layer: str,
    objective: Objective,
) -> Tensor:
    before = layers_before(bottom, layer)
    known = (h != 0).any(dim=1)  # of a row without gradient nothing is known
    target = h.clamp_min(0) if ends_in_relu(before) else h
    off = distance(before(x), target, objective.matching)
    value = objective.gamma * torch.where(known, off, torch.zeros_like(off)).mean()
    if x.ndim == 4 and bool((variation := total_variation(x) / len(x)) > objective.xi):
        value = value + objective.beta * variation
    if not objective.alpha:
        return value
    g = seen.g if seen.g is not None else _mean(seen) + unit * (free - free.mean(dim=0))
    parameters = {name: p.detach().requires_grad_(True) for name, p in bottom.named_parameters()}
    answer = (functional_call(bottom, parameters, (x,)) * g).sum()
    wanted = list(parameters.values())
    found = torch.autograd.grad(answer, wanted, create_graph=True, allow_unused=True, materialize_grads=True)
    sent = dict(zip(parameters, found, strict=True))
    how = Matching(objective.matching, iterations=1, restarts=1, lr=objective.lr)
    return value + objective.alpha * gradients_apart(seen.grads, sent, how)


def _mean(seen: Whole) -> Tensor:
    """The mean gradient of the embeddings, (E,): the last bias's gradient is their sum."""
    return seen.grads[list(seen.grads)[-1]] / len(seen.rows)


def _mean_value(
    search: Search, rounds: Sequence[Whole], h: Tensor, bottom: nn.Sequential, layer: str, objective: Objective
) -> float:
    values = []
    for seen in rounds:
        x, g = search.x[seen.rows], search.g[seen.rows]
        value = _value(x, g, search.unit, seen, h[seen.rows], bottom, layer, objective)
        values.append(float(value.detach()))
    return sum(values) / len(values)
