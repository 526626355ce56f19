"""What each player of a game is worth: Shapley values, exact or from drawn orders of joining, with standard errors.

Source: Shapley, A Value for n-Person Games, 1953; drawn orders: Castro, Gomez, Tejada, Polynomial Calculation of the Shapley
Value Based on Sampling, Computers & Operations Research 2009.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from torch import Tensor

from fedsim.seeding import Rng

Coalition = frozenset[str]
Value = Callable[[Coalition], Tensor]
"""What a coalition reaches on each row by each of K measures, (n, K) float64; more is better."""


@dataclass(frozen=True)
class Worths:
    """Shapley values, means over rows.

    Attributes:
        players: their order.
        values: (P, K); their sum over players is ``gain``.
        errors: their standard errors, (P, K): over the rows, and over orders where these were drawn.
        gain: what all players reach, less what nobody does, (K,).
        coalitions: how many were played.
        exact: whether all of them were.
    """

    players: tuple[str, ...]
    values: Tensor
    errors: Tensor
    gain: Tensor
    coalitions: int
    exact: bool


def shapley(players: Sequence[str], value: Value, most_exact: int, orders: int, rng: Rng) -> Worths:
    """The worth of each player; exact for up to ``most_exact`` of them, else from so many ``orders``."""
    known: dict[Coalition, Tensor] = {}

    def of(coalition: Coalition) -> Tensor:
        if coalition not in known:
            known[coalition] = value(coalition).double()
        return known[coalition]

    gain = (of(frozenset(players)) - of(frozenset())).mean(dim=0)
    exact = len(players) <= most_exact
    if exact:
        rows, spread = _exact(players, of), torch.zeros(len(players), len(gain), dtype=torch.float64)
    else:
        rows, spread = _drawn(players, of, orders, rng)
    errors = (rows.var(dim=1, correction=1) / rows.shape[1] + spread).sqrt()
    return Worths(tuple(players), rows.mean(dim=1), errors, gain, len(known), exact)


def _exact(players: Sequence[str], of: Value) -> Tensor:
    """Every row's own values, (P, n, K): marginal gains, weighted by the share of orders in which they come about."""
    count, found = len(players), list[Tensor]()
    for player in players:
        rest, total = [other for other in players if other != player], torch.zeros(())
        for size in range(count):
            for others in map(frozenset, combinations(rest, size)):
                total = total + (of(others | {player}) - of(others)) / (count * comb(count - 1, size))
        found.append(total)
    return torch.stack(found)


def _drawn(players: Sequence[str], of: Value, orders: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Every row's mean marginal gains over drawn orders, (P, n, K), and the variance of their mean over orders, (P, K)."""
    total, means = torch.zeros(()), list[Tensor]()
    for i in range(orders):
        joined: Coalition = frozenset()
        gains: dict[str, Tensor] = {}
        for place in torch.randperm(len(players), generator=rng.child(i).torch()).tolist():
            player = players[place]
            gains[player] = of(joined | {player}) - of(joined)
            joined |= {player}
        own = torch.stack([gains[player] for player in players])
        total = total + own
        means.append(own.mean(dim=1))
    return total / orders, torch.stack(means).var(dim=0, correction=1) / orders
