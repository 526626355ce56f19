"""Bounds under weight perturbation are never broken: by random weights, by random corners of the ball, by descent."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedsim.errors import ConfigError
from fedsim.models import ModelConfig
from fedsim.plugins import load
from fedsim.seeding import Rng
from fedsim.vfl.bounds import FORMS, Bisection, Form, holds, margins, spread

CHECKS: Counter[str] = Counter()
ROWS, DRAWS = 4, 40


class Joint(nn.Module):
    """Two bottoms and a top as one network, float64; the second bottom reads the second half of a row."""

    def __init__(self, kind: str, hidden: list[int], scale: float, rng: Rng) -> None:
        super().__init__()
        with rng.as_global():
            self.bottoms = nn.ModuleList([_build(kind, hidden, 3) for _ in range(2)])
            self.top = load("models", ModelConfig, _top(hidden)).build((6,), 4)
        self.double().requires_grad_(False)
        for parameter in self.parameters():
            parameter.mul_(scale)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = torch.cat([bottom(part) for bottom, part in zip(self.bottoms, x.chunk(2, dim=-1), strict=True)], 1)
        return self.top(z)  # type: ignore[no-any-return]


def _build(kind: str, hidden: list[int], out: int) -> nn.Sequential:
    settings = {"cnn": {"channels": [2, 3]}, "mlp": {"hidden": hidden, "bias": False}, "linear": {}}[kind]
    return load("models", ModelConfig, {"kind": kind, **settings}).build((1, 5, 4) if kind == "cnn" else (4,), out)


def _top(hidden: list[int]) -> dict[str, object]:
    return {"kind": "mlp", "hidden": hidden} if len(hidden) > 1 else {"kind": "linear"}


def rows_for(kind: str, rng: Rng) -> Tensor:
    shape = (ROWS, 1, 5, 8) if kind == "cnn" else (ROWS, 8)
    return torch.randn(shape, generator=rng.torch(), dtype=torch.float64)


def bound(net: Joint, x: Tensor, eps: float, who: str, form: Form) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, the class of each row, and how far each margin can fall if only ``who`` is perturbed."""
    z, e = [], []
    for i, (bottom, part) in enumerate(zip(net.bottoms, x.chunk(2, dim=-1), strict=True)):
        found = FORMS[form](bottom, part, eps if who in ("all", f"bottoms.{i}") else 0.0, None)
        z.append(found[0])
        e.append(found[1])
    joined = torch.cat(e, 1) if form == "entrywise" else torch.stack(e).amax(0)
    chosen = net(x).argmax(1)
    logits, fall = margins(net.top, torch.cat(z, 1), chosen, eps if who in ("all", "top") else 0.0, joined, form)
    return logits, chosen, fall


def fallen(net: Joint, x: Tensor, chosen: Tensor, moved: dict[str, Tensor]) -> Tensor:
    """How far each margin fell under the weights ``moved``, each (V, *shape): (V, B, C)."""
    healthy = net(x)
    logits = vmap(lambda weights: functional_call(net, weights, (x,)))(moved)
    pick = chosen[:, None]
    before = healthy.gather(1, pick) - healthy
    return before - (logits.gather(2, pick.expand(len(logits), -1, -1)) - logits)


def attacked(net: Joint, x: Tensor, eps: float, who: str, how: str, chosen: Tensor, rng: Rng) -> Tensor:
    """The falls under ``DRAWS`` perturbations of one kind."""
    names = [name for name, _ in net.named_parameters() if who == "all" or name.startswith(f"{who}.")]
    centre = {name: dict(net.named_parameters())[name] for name in names}
    generator = rng.torch()

    def drawn(tensor: Tensor) -> Tensor:
        draw = 2 * torch.rand((DRAWS, *tensor.shape), generator=generator, dtype=torch.float64) - 1
        return eps * (draw.sign() if how == "corners" else draw)

    offsets = {name: drawn(tensor) for name, tensor in centre.items()}
    for _ in range(8 if how == "descent" else 0):
        live = {name: offset.clone().requires_grad_() for name, offset in offsets.items()}
        fall = fallen(net, x, chosen, {name: centre[name] + live[name] for name in names})
        goals = fall.flatten(1)[torch.arange(DRAWS), torch.arange(DRAWS) % fall[0].numel()]
        grads = torch.autograd.grad(goals.sum(), list(live.values()))
        offsets = {n: (offsets[n] + eps / 3 * g.sign()).clamp(-eps, eps) for n, g in zip(names, grads, strict=True)}
    return fallen(net, x, chosen, {name: centre[name] + offsets[name] for name in names})


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["mlp", "cnn", "linear"]),
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    who=st.sampled_from(["all", "bottoms.0", "bottoms.1", "top"]),
    form=st.sampled_from(list(FORMS)),
    eps=st.sampled_from([1e-3, 0.03, 0.5]),
    scale=st.sampled_from([0.3, 1.0, 4.0]),
    seed=st.integers(0, 10**6),
)
def test_no_margin_falls_further_than_its_bound(
    kind: str, hidden: list[int], who: str, form: Form, eps: float, scale: float, seed: int
) -> None:
    rng = Rng.root(seed)
    net, x = Joint(kind, hidden, scale, rng.child("net")), rows_for(kind, rng.child("rows"))
    _, chosen, fall = bound(net, x, eps, who, form)
    for how in ("inside", "corners", "descent"):
        found = attacked(net, x, eps, who, how, chosen, rng.child(how))
        assert (found <= fall * (1 + 1e-9) + 1e-12).all(), f"{how}: {(found - fall).max()}"
        CHECKS[how] += int((fall > 0).sum()) * DRAWS


def test_that_was_checked_often_enough() -> None:
    assert min(CHECKS.values()) > 10_000
    assert CHECKS.keys() == {"inside", "corners", "descent"}


def test_in_one_linear_layer_the_bound_is_reached() -> None:
    rng = Rng.root(3)
    net, x = Joint("linear", [1], 1.0, rng), rows_for("linear", rng.child("rows"))
    _, chosen, fall = bound(net, x, 0.01, "top", "entrywise")
    found = attacked(net, x, 0.01, "top", "descent", chosen, rng.child("descent")).amax(0)
    goals = (torch.arange(DRAWS) % found.numel()).unique()
    assert torch.allclose(found.flatten()[goals], fall.flatten()[goals], rtol=1e-9)


def test_entrywise_is_never_looser_than_by_norms_and_mostly_much_tighter() -> None:
    ratios = []
    for seed in range(20):
        rng = Rng.root(seed)
        kind = ("mlp", "cnn")[seed % 2]
        net, x = Joint(kind, [6, 5], 1.0, rng), rows_for(kind, rng.child("rows"))
        fine, coarse = (bound(net, x, 0.01, "all", form)[2] for form in ("entrywise", "norms"))
        assert (fine <= coarse * (1 + 1e-12)).all()
        ratios.append(float(fine.sum() / coarse.sum()))
    assert sum(ratios) / 20 < 0.7


def test_a_convolution_is_bounded_as_the_matrix_that_it_is() -> None:
    generator = Rng.root(5).torch()
    conv = nn.Conv2d(2, 3, 3, padding="same", bias=True).double().requires_grad_(False)
    x = torch.randn(1, 2, 4, 4, generator=generator, dtype=torch.float64)
    matrix = torch.stack([conv(unit.view(1, 2, 4, 4)).flatten() for unit in torch.eye(32, dtype=torch.float64)], 1)
    matrix = matrix - conv(torch.zeros_like(x)).flatten()[:, None]
    e = torch.rand(1, 2, 4, 4, generator=generator, dtype=torch.float64)
    eps = 0.1
    reads = (matrix != 0).double()
    expected = matrix.abs() @ e.flatten() + eps * (reads @ (x.abs() + e).flatten()) + eps
    z, found = spread(conv, x, eps, e)
    assert torch.allclose(found.flatten(), expected)
    assert torch.equal(z, conv(x))
    grouped = nn.Conv2d(2, 4, 3, groups=2).double().requires_grad_(False)
    moved = functional_call(grouped, {n: t + eps for n, t in grouped.named_parameters()}, (x,))
    assert ((moved - grouped(x)).abs() <= spread(grouped, x, eps)[1] + 1e-12).all()


def test_a_radius_a_row_is_that_radius_for_the_row() -> None:
    rng = Rng.root(7)
    net, x = Joint("cnn", [5, 4], 1.0, rng), rows_for("cnn", rng.child("rows"))
    radii = torch.tensor([0.0, 0.001, 0.01, 0.1], dtype=torch.float64)
    together = spread(net.bottoms[0], x[..., :4], radii)[1]
    alone = torch.cat([spread(net.bottoms[0], x[i : i + 1, ..., :4], float(r))[1] for i, r in enumerate(radii)])
    assert torch.allclose(together, alone, rtol=1e-12)
    assert together[0].abs().max() == 0


def test_a_certificate_leaves_room_for_rounding() -> None:
    logits, chosen = torch.tensor([[1.0, 1.0 - 1e-6, 0.0], [1.0, 0.5, 0.0]]), torch.tensor([0, 0])
    assert holds(logits, torch.zeros(2, 3), chosen).tolist() == [False, True]
    assert holds(logits, torch.full((2, 3), 0.51), chosen).tolist() == [False, False]
    assert holds(torch.full((1, 3), math.nan), torch.zeros(1, 3), chosen[:1]).tolist() == [False]


def test_what_has_no_bound_is_refused() -> None:
    for form in FORMS:
        with pytest.raises(ConfigError, match="no bound is known for a layer of kind Sigmoid"):
            FORMS[form](nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), torch.ones(1, 2), 0.1, None)
    with pytest.raises(ConfigError, match="padding of kind circular"):
        spread(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), torch.ones(1, 1, 4, 4), 0.1)
    with pytest.raises(ConfigError, match="a top that ends in a linear layer"):
        margins(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2), torch.tensor([0]), 0.1, torch.ones(1, 2))


def test_bisection_finds_what_never_and_what_always_holds() -> None:
    search = Bisection(3, 1e-6, 1.0, 25)
    for _ in range(search.rounds):
        search.told(search.asked() < torch.tensor([1e-9, 0.01, 5.0], dtype=torch.float64))
    assert search.found[0] == 0
    assert search.found[1:].tolist() == pytest.approx([0.01, 1.0], rel=1e-4)
