"""Projections are exact, weights go where the losses are, and the attack descends: without any federation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsim.minmax import simplex
from fedsim.minmax.apgda import Apgda, Found, Rule, Told, Weighing
from fedsim.minmax.balls import Ball, Norm, project
from fedsim.minmax.transforms import TRANSFORMS
from fedsim.seeding import Rng

NORMS: tuple[Norm, ...] = ("l0", "l1", "l2", "linf")
ORDER = {"l1": 1, "l2": 2, "linf": math.inf, "l0": 0}


def drawn(seed: int, rows: int, width: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points, and boxes around 0 of which some sides have no width."""
    rng = np.random.default_rng(seed)
    x = rng.random((rows, width)).round(1)
    v = rng.normal(0, scale, (rows, width)) * (rng.random((rows, width)) > 0.1)
    return torch.from_numpy(v), torch.from_numpy(-x), torch.from_numpy(1 - x)


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 40),
    scale=st.sampled_from([0.01, 0.3, 3.0]),
    eps=st.floats(0.05, 6),
)
def test_a_projection_lies_in_ball_and_box_and_stays_there(
    norm: Norm, seed: int, width: int, scale: float, eps: float
) -> None:
    eps = max(1, round(eps)) if norm == "l0" else eps
    v, low, high = drawn(seed, 5, width, scale)
    found = project(v, low, high, norm, eps)
    assert (found >= low - 1e-12).all()
    assert (found <= high + 1e-12).all()
    assert (torch.linalg.vector_norm(found, ORDER[norm], dim=1) <= eps * (1 + 1e-9)).all()
    assert project(found, low, high, norm, eps) == pytest.approx(found, abs=1e-9)
    inside = v.clamp(low, high)
    there = torch.linalg.vector_norm(inside, ORDER[norm], dim=1) <= eps
    assert (found[there] == inside[there]).all()


def multipliers(g: Tensor, p: Tensor, low: Tensor, high: Tensor, norm: Norm) -> tuple[float, float]:
    """The multipliers of the ball, from one to another, for which ``g`` is a normal of ball and box at ``p``.

    Karush, Kuhn and Tucker: g = multiplier * s + n, where s is a subgradient of the norm (of l2: of half its square) and n_i is
    0 inside the box, at least 0 at its upper side, at most 0 at its lower one. There is none if the first is above the second.
    """
    least, most, close = 0.0, math.inf, 1e-9
    for g_i, p_i, low_i, high_i in zip(g.tolist(), p.tolist(), low.tolist(), high.tolist(), strict=True):
        slopes = (p_i, p_i) if norm == "l2" else (-1 if p_i < close else 1, 1 if p_i > -close else -1)
        bounds = []  # (slope, number): slope * multiplier must be at most the number
        if p_i > low_i + close:
            bounds.append((slopes[0], g_i + close))
        if p_i < high_i - close:
            bounds.append((-slopes[1], close - g_i))
        for slope, number in bounds:
            if slope > 0:
                most = min(most, number / slope)
            elif slope < 0:
                least = max(least, number / slope)
            elif number < 0:
                return math.inf, 0.0
    return least, most


def is_closest(p: Tensor, v: Tensor, low: Tensor, high: Tensor, norm: Norm, eps: float) -> bool:
    """Whether a point of ball and box is the one that is closest to ``v``: the difference is normal to both there."""
    if norm == "linf":  # the ball is a box
        least, most = multipliers(v - p, p, low.clamp(min=-eps), high.clamp(max=eps), "l1")
        return least <= 1e-9
    least, most = multipliers(v - p, p, low, high, norm)
    tight = float(torch.linalg.vector_norm(p, ORDER[norm])) > eps - 1e-9
    return least <= (most if tight else min(most, 1e-9))


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 20),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    eps=st.floats(0.05, 4),
)
def test_a_projection_is_the_closest_point(norm: Norm, seed: int, width: int, scale: float, eps: float) -> None:
    v, low, high = (each[0] for each in drawn(seed, 1, width, scale))
    found = project(v[None], low[None], high[None], norm, eps)[0]
    assert is_closest(found, v, low, high, norm, eps)
    nearer_to_zero = 0.9 * found  # lies in both, too
    if float((found - nearer_to_zero).abs().max()) > 1e-6:
        assert not is_closest(nearer_to_zero, v, low, high, norm, eps)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 4))
def test_of_l0_no_other_choice_of_entries_is_closer(seed: int, count: int) -> None:
    import itertools

    v, low, high = drawn(seed, 1, 6, 1.0)
    found = project(v, low, high, "l0", count)
    inside = v.clamp(low, high)
    best = math.inf
    for kept in itertools.combinations(range(6), count):
        other = torch.zeros_like(v)
        other[0, list(kept)] = inside[0, list(kept)]
        best = min(best, float(((other - v) ** 2).sum()))
    assert float(((found - v) ** 2).sum()) <= best + 1e-12


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 12))
def test_weights_land_on_the_simplex_at_its_closest_point(seed: int, count: int) -> None:
    v = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (count, 4)))
    found = simplex.project(v)
    assert (found >= 0).all()
    assert found.sum(dim=0) == pytest.approx(1, abs=1e-12)
    assert simplex.project(found) == pytest.approx(found, abs=1e-12)
    # optimal: v - w is one number on the support and at most that number off it
    for k in range(4):
        gaps = (v - found)[:, k]
        on = found[:, k] > 0
        assert gaps[on] == pytest.approx(float(gaps[on][0]), abs=1e-9)
        assert (gaps[~on] <= float(gaps[on][0]) + 1e-9).all()


@pytest.mark.parametrize(
    ("gamma", "exact"),
    [
        (0.0, [1.0, 0.0, 0.0, 0.0]),
        (0.5, [1.0, 0.0, 0.0, 0.0]),  # 4 - 0.5 (1 - 0) is still above 3.5
        (3.0, [7 / 12, 0.0, 5 / 12, 0.0]),  # 4 - 3 w = 3.5 - 3 (1 - w)
        (
            100.0,
            [0.25 + 1.875 / 100, 0.25 - 1.125 / 100, 0.25 + 1.375 / 100, 0.25 - 2.125 / 100],
        ),  # the losses less their mean
    ],
)
def test_the_worst_weights_are_those_that_can_be_worked_out_by_hand(gamma: float, exact: list[float]) -> None:
    losses = torch.tensor([[4.0], [1.0], [3.5], [0.0]], dtype=torch.float64)
    assert simplex.worst(losses, gamma)[:, 0].tolist() == pytest.approx(exact, abs=1e-12)


def test_steps_of_the_weights_end_where_the_exact_ones_are() -> None:
    losses, weights = torch.tensor([[2.0], [1.0], [1.9]]), torch.full((3, 1), 1 / 3)
    for _ in range(2000):
        weights = simplex.ascend(weights, losses, 3.0, 50.0)
    assert weights == pytest.approx(simplex.worst(losses, 3.0), abs=1e-5)


def test_tied_domains_share_the_weight_if_nothing_holds_it_together() -> None:
    assert simplex.worst(torch.tensor([[2.0], [2.0], [1.0]]), 0.0)[:, 0].tolist() == [0.5, 0.5, 0.0]


# the attack, on domains whose margins are linear: b_k - a_k . delta


def play(
    plan: Weighing, slopes: Tensor, offsets: Tensor, ball: Ball, rows: int = 1, start: Tensor | None = None
) -> Found:
    """``slopes`` (K, D), ``offsets`` (K,): every example has the same domains."""
    low, high = -torch.ones(rows, slopes.shape[1]), torch.ones(rows, slopes.shape[1])
    first = torch.full((len(slopes),), 1 / len(slopes)) if start is None else start
    trials = Apgda(low, high, ball, plan, first, Rng.root(1))
    while not trials.over:
        margins = offsets[:, None] - slopes @ trials.trying.delta.T
        gradients = -slopes[:, None].expand(-1, len(trials.trying.rows), -1)
        trials.told(Told(margins, gradients))
    return trials.found


SLOPES = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
OFFSETS = torch.tensor([1.0, 0.5])
CIRCLE = Ball(norm="l2", eps=0.6, step=0.02)


def plan(rule: Rule = "minmax", **more: object) -> Weighing:
    return Weighing.model_validate({"rule": rule, "iterations": 400, "beta": 20.0, "kappa": 0.0, **more})


def test_min_max_fools_both_domains_where_the_average_fools_the_easy_one() -> None:
    """Inside the circle both are fooled only where delta > (.25, .5); the average goes where the slope is steep."""
    found = play(plan(kappa=0.3, gamma=0.1), SLOPES, OFFSETS, CIRCLE)
    average = play(plan("average", kappa=2.0), SLOPES, OFFSETS, CIRCLE)
    assert found.along[-1][1] == 1
    assert average.along[-1][1] == 0
    assert average.delta[0].tolist() == pytest.approx(
        (SLOPES.mean(dim=0) / SLOPES.mean(dim=0).norm() * 0.6).tolist(), abs=0.02
    )


def test_the_weight_goes_to_the_domain_that_is_hard() -> None:
    found = play(plan(kappa=2.0, gamma=0.1), SLOPES, OFFSETS, CIRCLE)
    assert found.weights[1] > 0.7


@pytest.mark.parametrize("norm", NORMS)
def test_with_exact_weights_an_infinite_gamma_is_the_average(norm: Norm) -> None:
    ball = Ball(norm=norm, eps={"l0": 1, "l1": 0.7, "l2": 0.6, "linf": 0.4}[norm])
    limit = play(plan(gamma=1e12, inner="exact", iterations=50), SLOPES, OFFSETS, ball, rows=3)
    average = play(plan("average", iterations=50), SLOPES, OFFSETS, ball, rows=3)
    assert limit.delta == pytest.approx(average.delta, abs=1e-6)
    assert limit.weights == pytest.approx(average.weights, abs=1e-6)


def test_a_loss_that_is_clipped_pulls_no_more() -> None:
    """The easy domain is done with at a loss of 1; from there on only the hard one pulls."""
    found = play(plan("clipped", kappa=2.0, floor=1.5), SLOPES, OFFSETS, CIRCLE)
    average = play(plan("average", kappa=2.0), SLOPES, OFFSETS, CIRCLE)
    assert found.delta[0, 1] > average.delta[0, 1] + 0.2


def test_a_domain_that_is_left_out_has_no_say() -> None:
    found = play(plan("without", kappa=2.0), SLOPES, OFFSETS, CIRCLE, start=torch.tensor([0.0, 1.0]))
    assert found.delta[0].tolist() == pytest.approx([0, 0.6], abs=0.02)


def test_who_has_no_gradient_left_is_not_asked_about_again() -> None:
    asked = []
    low = torch.full((2, 1), -1.0)
    trials = Apgda(
        low, -low, Ball(norm="linf", eps=1, step=0.1), plan("average", iterations=8), torch.ones(1), Rng.root(1)
    )
    while not trials.over:
        rows = trials.trying.rows
        asked.append(rows.tolist())
        trials.told(Told(torch.where(rows == 0, -1.0, 5.0)[None], torch.ones(1, len(rows), 1)))
    assert asked[0] == [0, 1]
    assert asked[1:] == [[1]] * 8
    assert trials.found.delta[1] < -0.5 < trials.found.delta[0]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transformation_keeps_images_and_has_a_gradient(name: str) -> None:
    x = torch.rand((2, 1, 16, 16), generator=torch.Generator().manual_seed(1)).requires_grad_()
    through = TRANSFORMS[name](x)  # type: ignore[index]
    assert through.shape == x.shape
    assert through.min() >= 0
    assert through.max() <= 1 + 1e-5
    g = torch.autograd.grad(through.sum(), x)[0]
    assert torch.isfinite(g).all()
    assert (g != 0).double().mean() > 0.5


def test_a_count_of_inputs_is_whole() -> None:
    with pytest.raises(ValueError, match=r"of l0 expected a whole number of inputs, found 2\.5"):
        Ball(norm="l0", eps=2.5)
