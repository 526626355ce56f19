"""The mathematics of robust contrastive learning against plain formulas; attacks where the worst that can be is known."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedsim import tensors
from fedsim.contrast.balls import Apgd, Ball, Pgd, checkpoints
from fedsim.contrast.clusters import components, pseudo_labels
from fedsim.contrast.losses import margin, ntxent, ratio, rivals
from fedsim.contrast.views import Augmentation, high_pass
from fedsim.errors import ConfigError, OutputError
from fedsim.seeding import Rng
from fedsim.vfl.optimise import OptimiserConfig


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Rng.root(seed).torch())


# losses


@pytest.mark.parametrize("views", [2, 3, 4])
def test_ntxent_is_the_sum_of_its_definition(views: int) -> None:
    x, t = normal(views, 5, 7), 0.5
    z = functional.normalize(x.double(), dim=2).flatten(0, 1)
    total, count = 0.0, 0
    for a, p in itertools.permutations(range(views * 5), 2):
        if a % 5 == p % 5:
            others = [math.exp(float(z[a] @ z[k]) / t) for k in range(len(z)) if k != a]
            total -= math.log(math.exp(float(z[a] @ z[p]) / t) / sum(others))
            count += 1
    assert float(ntxent(x, t)) == pytest.approx(total / count, rel=1e-5)


def test_ntxent_does_not_see_lengths_and_falls_as_views_agree() -> None:
    x = normal(2, 8, 6)
    assert float(ntxent(3 * x, 0.5)) == pytest.approx(float(ntxent(x, 0.5)), rel=1e-5)
    assert ntxent(torch.stack([x[0], x[0]]), 0.5) < ntxent(x, 0.5)
    g = torch.autograd.functional.jacobian(lambda v: ntxent(v, 0.5), x)
    assert torch.isfinite(g).all()


def test_margins_and_ratios_lead_by_as_much_as_they_say() -> None:
    logits, labels = torch.tensor([[3.0, 1, 2, 0], [0, 5, 6, 4]]), torch.tensor([0, 1])
    assert margin(logits, labels).tolist() == [-1, 1]
    assert rivals(logits, labels).tolist() == [[2, 1, 3], [2, 3, 0]]
    expected = [(2 - 3) / (3 - (1 + 0) / 2), (6 - 5) / (6 - (4 + 0) / 2)]
    assert ratio(logits, labels, torch.tensor([2, 2])).tolist() == pytest.approx(expected)
    assert ratio(9 * logits, labels, torch.tensor([2, 2])).tolist() == pytest.approx(expected)
    assert torch.isfinite(ratio(logits[:, :2], torch.tensor([0, 1]), torch.tensor([1, 0]))).all()


# views


def test_a_high_pass_takes_out_the_mean_and_keeps_a_checkerboard() -> None:
    flat, board = torch.full((1, 1, 8, 8), 0.7), (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert high_pass(flat, 1).abs().max() < 1e-6
    wave = (board.float() - 0.5)[None, None]
    assert torch.allclose(high_pass(wave, 4), wave, atol=1e-6)
    x = torch.rand((2, 3, 8, 4), generator=Rng.root(1).torch())
    slow = x - high_pass(x, 2)
    assert torch.allclose(high_pass(slow, 2), torch.zeros_like(x), atol=1e-6)
    assert torch.allclose(high_pass(x, 0), x, atol=1e-6)


def test_an_augmentation_without_strength_changes_nothing_and_draws_are_the_same_for_all_slices() -> None:
    x = torch.rand((6, 1, 8, 4), generator=Rng.root(1).torch())
    still = Augmentation(rotate=0, shift=0, zoom=0, contrast=0)
    assert torch.allclose(still.apply(x, Rng.root(2)), x, atol=1e-5)
    mirrored = Augmentation(rotate=0, shift=0, zoom=0, contrast=0, flip=True).apply(x, Rng.root(2))
    turned_over = [torch.allclose(after, before.flip(2), atol=1e-5) for before, after in zip(x, mirrored, strict=True)]
    assert 0 < sum(turned_over) < 6
    assert torch.allclose(mirrored[~torch.tensor(turned_over)], x[~torch.tensor(turned_over)], atol=1e-5)
    loud = Augmentation(crop=0.4, brightness=0.2, grey=0.5)
    varied = loud.apply(x, Rng.root(2))
    assert torch.equal(varied, loud.apply(x, Rng.root(2)))
    assert not torch.allclose(varied, loud.apply(x, Rng.root(3)))
    assert (varied.min(), varied.max()) >= (0, 0)
    assert varied.max() <= 1
    ramp = (torch.arange(9.0) / 8)[None, None, :, None].expand(20, 1, 9, 9)
    turned = Augmentation(rotate=90, shift=0, zoom=0, contrast=0).apply(ramp, Rng.root(4))
    assert turned[:, 0, 4, 4].tolist() == pytest.approx([0.5] * 20, abs=1e-5)


# clusters


def test_clusters_that_are_far_apart_are_found_and_the_same_each_time() -> None:
    centres = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9]]).repeat_interleave(20, 0)
    points = centres + 0.1 * normal(80, 2)
    found = pseudo_labels(points, (2, 4), Rng.root(1))
    assert found.shape == (2, 80)
    assert len({tuple(group.tolist()) for group in found[1].view(4, 20)}) == 4
    assert all(len(set(group.tolist())) == 1 for group in found[1].view(4, 20))
    assert torch.equal(found, pseudo_labels(points, (2, 4), Rng.root(1)))
    with pytest.raises(ConfigError, match="81 clusters are asked of 80 rows"):
        pseudo_labels(points, (81,), Rng.root(1))


def test_components_keep_the_directions_of_most_variance() -> None:
    x = normal(50, 6) * torch.tensor([9.0, 1, 1, 1, 1, 1])
    kept = components(x.view(50, 2, 3), 1)
    centred = x[:, 0] - x[:, 0].mean()
    assert kept.shape == (50, 1)
    assert abs(float(torch.corrcoef(torch.stack([kept[:, 0], centred]))[0, 1])) > 0.99
    assert components(x, 99).shape == (50, 6)


# attacks


@pytest.mark.parametrize("kind", ["pgd", "apgd"])
def test_an_attack_on_a_linear_network_reaches_the_worst_corner(kind: str) -> None:
    w, centre = normal(12, seed=3), torch.full((5, 12), 0.5)
    ball = Ball(centre, 0.1)
    start = ball.drawn(Rng.root(1))
    assert (start - centre).abs().max() <= 0.1 + 1e-6
    attack = Apgd(ball, start, 40) if kind == "apgd" else Pgd(ball, start, 0.02)
    for _ in range(40):
        attack.told(w.expand(5, 12), attack.x @ w)
        assert (attack.x - centre).abs().max() <= 0.1 + 1e-6
    assert torch.allclose(attack.x, centre + 0.1 * w.sign(), atol=1e-5)


def test_a_ball_ends_where_pixels_end() -> None:
    ball = Ball(torch.tensor([[0.0, 1.0, 0.5]]), 0.2)
    assert ball.project(torch.tensor([[-1.0, 2.0, 2.0]]))[0].tolist() == pytest.approx([0.0, 1.0, 0.7])


def test_apgd_halves_its_step_where_it_only_jumps_to_and_fro_and_so_comes_nearer_than_pgd() -> None:
    """A narrow ridge: with a fixed step PGD crosses it for ever."""
    peak = torch.tensor([[0.513, 0.487]])

    def loss(x: Tensor) -> Tensor:
        return -(x - peak).abs().sum(dim=1)

    far = {}
    for name in ("pgd", "apgd"):
        ball = Ball(torch.full((1, 2), 0.5), 0.3)
        attack = Apgd(ball, ball.centre + 0.2, 100) if name == "apgd" else Pgd(ball, ball.centre + 0.2, 0.075)
        best = torch.full((1,), -torch.inf)
        for _ in range(100):
            best = torch.maximum(best, loss(attack.x))
            attack.told((peak - attack.x).sign(), loss(attack.x))
        far[name] = -float(best)
    assert far["apgd"] < 0.005 < far["pgd"]


def test_apgd_looks_back_where_its_paper_says() -> None:
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


def test_slices_that_are_told_the_same_losses_attack_as_one() -> None:
    """Rows cut in two, each half moved by itself, end where the whole row ends."""
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(normal(*p.shape, seed=i))
    x, y = torch.rand((7, 8), generator=Rng.root(5).torch()), torch.arange(7) % 3

    def answer(rows: Tensor) -> tuple[Tensor, Tensor]:
        rows = rows.detach().requires_grad_()
        losses = functional.cross_entropy(net(rows), y, reduction="none")
        return torch.autograd.grad(losses.sum(), rows)[0], losses.detach()

    whole, halves = Apgd(Ball(x, 0.2), x, 30), [Apgd(Ball(part, 0.2), part, 30) for part in x.split(4, dim=1)]
    for _ in range(30):
        whole.told(*answer(whole.x))
        g, losses = answer(torch.cat([half.x for half in halves], dim=1))
        for half, part in zip(halves, g.split(4, dim=1), strict=True):
            half.told(part, losses)
    assert torch.equal(whole.x, torch.cat([half.x for half in halves], dim=1))


# tensors in files


def test_a_file_is_whole_or_refused_by_name(tmp_path: Path) -> None:
    path, here = tmp_path / "deep" / "a.safetensors", {"a": torch.ones(2), "b": torch.zeros(3)}
    tensors.store(path, {"a": torch.tensor([1.0, 2.0]), "b": torch.full((3,), 4.0)})
    tensors.restore(path, here)
    assert here["b"].tolist() == [4, 4, 4]
    kept = {name: t.clone() for name, t in here.items()}
    with pytest.raises(OutputError, match="has 'b'; expected exactly the 1 tensors"):
        tensors.restore(path, {"a": here["a"]})
    with pytest.raises(OutputError, match="lacks 'c', 'd' and has 'b'"):
        tensors.restore(path, {"a": here["a"], "c": here["b"], "d": here["b"]})
    with pytest.raises(OutputError, match=r"b is \(\(3,\), torch.float32\), expected \(\(2,\), torch.float32\)"):
        tensors.restore(path, {"a": here["a"], "b": torch.zeros(2)})
    with pytest.raises(OutputError, match="not readable as safetensors"):
        tensors.restore(tmp_path / "missing", here)
    assert all(torch.equal(kept[name], here[name]) for name in kept)
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam"])
def test_an_optimiser_goes_on_from_its_state_and_a_share_of_the_rate_is_a_smaller_rate(kind: str) -> None:
    config = OptimiserConfig.model_validate({"kind": kind, "lr": 0.1})
    grads = [{"w": normal(4, seed=i)} for i in range(6)]
    one = {"w": torch.ones(4)}
    whole = config.build(one)
    for g in grads:
        whole.step(g, 0.5)
    other = {"w": torch.ones(4)}
    first = OptimiserConfig.model_validate({"kind": kind, "lr": 0.05}).build(other)
    for g in grads[:3]:
        first.step(g)
    second = config.build(other)
    for name, t in second.state().items():
        t.copy_(first.state()[name])
    for g in grads[3:]:
        second.step(g, 0.5)
    assert torch.equal(one["w"], other["w"])
