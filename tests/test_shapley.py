"""Shapley values: sums, symmetry, null players, known games; drawn orders within their standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedsim.parties.appraisal.shapley import Coalition, Worths, shapley
from fedsim.seeding import Rng

ROWS, MEASURES = 7, 2
Value = Callable[[Coalition], Tensor]


def game(players: str, seed: int) -> Value:
    """A value for every coalition, drawn, (rows, measures)."""
    rng = Rng.root(seed).child("game")

    def value(there: Coalition) -> Tensor:
        name = "".join(player for player in players if player in there)
        return torch.randn(ROWS, MEASURES, dtype=torch.float64, generator=rng.child(name).torch())

    return value


def exact(players: str, value: Value) -> Worths:
    return shapley(players, value, 8, 10, Rng.root(0))


def by_orders(players: str, value: Value) -> Tensor:
    """The definition: marginal gains, averaged over every order of joining, (P, K)."""
    total = {player: torch.zeros(MEASURES, dtype=torch.float64) for player in players}
    for order in permutations(players):
        for i, player in enumerate(order):
            gain = value(frozenset(order[: i + 1])) - value(frozenset(order[:i]))
            total[player] += gain.mean(dim=0) / math.factorial(len(players))
    return torch.stack([total[player] for player in players])


@given(st.integers(1, 5), st.integers(0, 10_000))
def test_exact_values_are_those_of_the_definition_and_sum_to_the_gain(count: int, seed: int) -> None:
    players = "abcde"[:count]
    value = game(players, seed)
    found = exact(players, value)
    torch.testing.assert_close(found.values, by_orders(players, value), rtol=0, atol=1e-12)
    gain = (value(frozenset(players)) - value(frozenset())).mean(dim=0)
    assert (found.values.sum(dim=0) - gain).abs().max() < 1e-9
    assert (found.gain - gain).abs().max() < 1e-12
    assert (found.exact, found.coalitions) == (True, 2**count)


def test_eight_players_are_exact_and_nine_are_drawn() -> None:
    eight, nine = "abcdefgh", "abcdefghi"
    found = exact(eight, game(eight, 1))
    assert (found.exact, found.coalitions) == (True, 256)
    assert (found.values.sum(dim=0) - found.gain).abs().max() < 1e-9
    assert not shapley(nine, game(nine, 1), 8, 4, Rng.root(0)).exact


def test_a_null_player_is_worth_nothing_and_a_double_the_same() -> None:
    inner = game("abc", 5)

    def value(there: Coalition) -> Tensor:
        seen = {"a" if player in "ax" else player for player in there} - {"n"}
        return inner(frozenset(seen))

    found = exact("axbcn", value)
    worth = dict(zip(found.players, found.values, strict=True))
    assert worth["n"].abs().max() < 1e-12
    assert (worth["a"] - worth["x"]).abs().max() < 1e-12
    assert worth["a"].abs().max() > 0.01


def test_drawn_values_sum_to_the_gain_and_lie_within_three_standard_errors() -> None:
    players = "abcde"
    value = game(players, 3)
    truth = by_orders(players, value)
    close = []
    for seed in range(20):
        found = shapley(players, value, 1, 60, Rng.root(seed))
        assert (found.values.sum(dim=0) - found.gain).abs().max() < 1e-9
        error = found.errors
        assert (error > 0).all()
        close += ((found.values - truth).abs() < 3 * error).flatten().tolist()
    assert sum(close) / len(close) > 0.98


def test_the_error_over_orders_falls_with_their_number() -> None:
    players = "abcdef"
    base = game(players, 3)
    constant: Value = lambda there: base(there).mean(dim=0, keepdim=True).expand(ROWS, -1)  # noqa: E731 (all rows alike)
    few, many = (shapley(players, constant, 1, orders, Rng.root(0)).errors for orders in (25, 400))
    assert (exact(players, constant).errors < 1e-9).all()
    ratio = float((few / many).mean())
    assert ratio == pytest.approx(4, rel=0.3)


def test_the_error_over_rows_is_that_of_a_mean() -> None:
    rows = torch.randn(400, 1, dtype=torch.float64, generator=Rng.root(9).torch())
    found = exact("a", lambda there: rows if there else torch.zeros_like(rows))
    assert float(found.errors) == pytest.approx(float(rows.std()) / 20)
