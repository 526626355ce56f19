"""Defences cost what theory says, do what they say to every message, and have a price that stands beside their effect."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsim.config import ScenarioFile, validate
from fedsim.message import Message, RoleId
from fedsim.metrics import psnr
from fedsim.models.linear import Linear
from fedsim.outcome import Finding, SeatReport
from fedsim.runtime.local import memory, play_all
from fedsim.scenarios.defences.clip import Clip
from fedsim.scenarios.defences.fake_gradient import FakeGradient
from fedsim.scenarios.defences.gaussian_noise import GaussianNoise
from fedsim.seeding import Rng, simulated_secret
from fedsim.state import digest
from fedsim.threat import Defence
from fedsim.vfl.messages import Embedding, Gradient, ParameterGradient

RNG = Rng.root(11)
DECADES = (1e-4, 1e-3, 1e-2)


def normal(*shape: int, name: str = "values") -> Tensor:
    return torch.randn(shape, generator=RNG.child(name, *shape).torch())


def passed(defence: Defence, message: Message, rng: Rng = RNG) -> Any:
    stage = defence.stage()
    return stage.apply(message, stage.init(rng))[0]


def passed_all(defence: Defence, messages: Sequence[Message]) -> tuple[list[Any], Any]:
    """What goes on, and the stage's state in the end."""
    stage = defence.stage()
    after, state = [], stage.init(RNG)
    for message in messages:
        new, state = stage.apply(message, state)
        after.append(new)
    return after, state


# Gaussian noise


def level(sigma: float) -> float:
    """PSNR (dB) of rows that are read back from noisy embeddings of a square linear bottom."""
    with RNG.child("bottom").as_global():
        layer = Linear().build((10,), 10)[0]
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    rows = torch.rand((100, 10), generator=RNG.child("rows").torch(), dtype=torch.float64)
    noisy = passed(GaussianNoise(sigma=sigma), Embedding(0, rows @ weight.T + bias)).z
    return float(psnr(rows, torch.linalg.solve(weight, (noisy - bias).T).T, cap=1e9).mean())


def test_noise_on_an_invertible_embedding_costs_twenty_db_a_decade() -> None:
    levels = [level(sigma) for sigma in DECADES]
    assert level(1e-12) > 100.0
    assert levels[0] - levels[1] == pytest.approx(20.0, abs=0.1)
    assert levels[1] - levels[2] == pytest.approx(20.0, abs=0.1)


def test_the_spread_of_the_noise_is_sigma_and_its_mean_zero() -> None:
    noise = passed(GaussianNoise(sigma=0.2), Embedding(0, torch.zeros(200, 50))).z
    assert float(noise.std()) == pytest.approx(0.2, rel=0.03)
    assert abs(float(noise.mean())) < 0.2 * 4 / 100  # four standard errors of 10,000 numbers


def test_relative_noise_follows_the_spread_of_each_tensor() -> None:
    grads = {"small": 1e-3 * normal(300, 40), "large": 50.0 * normal(40, 300) + 9.0}
    after = passed(GaussianNoise(sigma=0.1, scale="relative"), ParameterGradient(0, grads)).grads
    for name, true in grads.items():
        assert float((after[name] - true).std() / true.std()) == pytest.approx(0.1, rel=0.03)


def test_noise_repeats_under_one_secret_and_is_another_for_every_step_tensor_purpose_and_secret() -> None:
    defence, zeros = GaussianNoise(sigma=1.0), torch.zeros(6, 4)
    drawn = [
        passed(defence, Embedding(0, zeros)).z,
        passed(defence, Embedding(1, zeros)).z,
        passed(defence, Embedding(0, zeros, purpose="query")).z,
        passed(defence, Embedding(0, zeros, purpose="evaluate")).z,
        passed(defence, Gradient(0, zeros)).g,
        *passed(defence, ParameterGradient(0, {"one": zeros, "two": zeros})).grads.values(),
        passed(defence, Embedding(0, zeros), RNG.child("another secret")).z,
    ]
    assert len({digest({"noise": noise}) for noise in drawn}) == len(drawn)
    assert torch.equal(drawn[0], passed(defence, Embedding(0, zeros)).z)


# Clipping


def test_a_clipped_message_as_a_whole_keeps_its_direction_and_is_no_longer_than_the_bound() -> None:
    grads = {"weight": 3 * normal(8, 5), "bias": normal(8)}
    short = {name: tensor / 1000 for name, tensor in grads.items()}
    (long, untouched), count = passed_all(Clip(norm=0.5), [ParameterGradient(0, grads), ParameterGradient(1, short)])
    after = torch.cat([t.flatten() for t in long.grads.values()])
    before = torch.cat([t.flatten() for t in grads.values()])
    assert float(after.norm()) == pytest.approx(0.5, rel=1e-5)
    assert torch.allclose(after / after.norm(), before / before.norm(), atol=1e-6)
    assert digest(untouched.grads) == digest(short)
    assert (count.messages, count.clipped) == (2, 1)


def test_rows_are_clipped_each_by_itself() -> None:
    g = normal(20, 6) * torch.logspace(-3, 3, 20)[:, None]
    (after,), count = passed_all(Clip(norm=0.7, per="row"), [Gradient(0, g)])
    long = g.norm(dim=1) > 0.7
    assert 0 < int(long.sum()) < 20
    assert torch.allclose(after.g.norm(dim=1)[long], torch.tensor(0.7))
    assert torch.equal(after.g[~long], g[~long])
    assert torch.allclose(nn.functional.cosine_similarity(after.g, g), torch.ones(20))
    assert (count.messages, count.clipped) == (1, 1)


def test_zeros_are_not_clipped() -> None:
    for per in ("message", "row"):
        (after,), count = passed_all(Clip(norm=0.1, per=per), [Gradient(0, torch.zeros(3, 2))])
        assert torch.equal(after.g, torch.zeros(3, 2))
        assert count.clipped == 0


# Fake gradients


def fake(defence: FakeGradient, true: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
    """What is sent in the place of ``true``, and the bank (nu, n) it came from."""
    stage = defence.stage()
    message, state = stage.apply(ParameterGradient(step, {"w": true}), stage.init(RNG))
    assert isinstance(message, ParameterGradient)
    (bank,) = state.banks.values()
    return message.grads["w"], bank.values


def heavy_tailed(*shape: int) -> Tensor:
    """Much like a gradient: most values small, some large."""
    return 1e-3 * normal(*shape, name="one") * normal(*shape, name="two").exp()


def test_fakes_keep_the_order_of_the_true_values_exactly() -> None:
    true = torch.randperm(600, generator=RNG.torch()).float().view(30, 20) - 250
    sent, _ = fake(FakeGradient(), true)
    assert sent.shape == true.shape
    assert torch.equal(sent.flatten().argsort(), true.flatten().argsort())


@pytest.mark.parametrize("sigma", [1.1, 0.01])
def test_every_value_that_is_sent_comes_from_the_nearest_candidate_and_none_is_true(sigma: float) -> None:
    true = heavy_tailed(30, 20)
    sent, bank = fake(FakeGradient(sigma=sigma), true)
    ranked = true.flatten().sort(descending=True).values
    nearest = (bank - ranked).norm(dim=1).argmin()
    assert bank.shape == (20, 600)
    assert torch.equal(sent.flatten().sort(descending=True).values, bank[nearest])
    assert float(bank.std()) == pytest.approx(sigma, rel=0.05)
    assert not set(sent.flatten().tolist()) & set(true.flatten().tolist())


def test_relative_fakes_have_the_spread_and_nearly_the_direction_of_the_true_gradient() -> None:
    for true in (1e-4 * normal(64, 32), 7.0 * normal(500)):
        sent, _ = fake(FakeGradient(sigma=1.0, scale="relative"), true)
        assert float(sent.std() / true.std()) == pytest.approx(1.0, rel=0.1)
        assert float(nn.functional.cosine_similarity(sent.flatten(), true.flatten(), dim=0)) > 0.9
    bent, _ = fake(FakeGradient(sigma=1.0, scale="relative"), (tail := heavy_tailed(64, 32)))
    assert 0.5 < float(nn.functional.cosine_similarity(bent.flatten(), tail.flatten(), dim=0)) < 0.98


def test_the_published_clip_rule_takes_the_fakes_for_bounds_and_leaves_many_true_values() -> None:
    true = heavy_tailed(30, 20)
    psi, _ = fake(FakeGradient(), true)
    sent, _ = fake(FakeGradient(clip=True), true)
    assert torch.equal(sent, torch.minimum(psi, torch.maximum(true, -psi)))
    assert 0.3 < float((sent == true).float().mean()) < 0.7


def test_tensors_whose_nearest_candidate_is_too_far_are_counted() -> None:
    messages = [ParameterGradient(step, {"w": normal(9, 9), "b": normal(9)}) for step in range(3)]
    for tau, missed in ((1e-6, 6), (10.0, 0), (None, 0)):
        _, state = passed_all(FakeGradient(tau=tau), messages)
        assert (state.tensors, state.missed) == (6, missed)


def test_the_distance_from_the_true_gradients_is_on_record() -> None:
    messages = [ParameterGradient(step, {"w": normal(9, 9), "b": normal(9)}) for step in range(3)]
    sent, state = passed_all(FakeGradient(sigma=5.0), messages)
    pairs = [(s.grads[n], m.grads[n]) for s, m in zip(sent, messages, strict=True) for n in m.grads]
    assert state.distance == pytest.approx(sum(float((a - b).norm() / b.norm()) for a, b in pairs) / len(pairs))
    assert state.distance > 2.0


def test_equal_values_are_ranked_by_chance_and_not_by_position() -> None:
    true = torch.zeros(400)
    true[:40] = -1.0
    first, bank = fake(FakeGradient(candidates=1), true, step=0)
    second, _ = fake(FakeGradient(candidates=1), true, step=1)
    assert torch.equal(first.sort(descending=True).values, bank[0])
    assert bool((first[:40].max() < first[40:].min()).all())
    assert not torch.equal(first, second)
    correlation = torch.corrcoef(torch.stack([first[40:], second[40:]]))[0, 1]
    assert abs(float(correlation)) < 0.25
    assert torch.equal(first, fake(FakeGradient(candidates=1), true, step=0)[0])


# Effect and price, in a federation


@dataclass(frozen=True)
class Outcome:
    reports: Mapping[RoleId, SeatReport]

    @property
    def findings(self) -> list[Finding]:
        return self.reports["server"].findings

    @property
    def accuracy(self) -> float:
        return float([row["test"]["accuracy"] for row in self.reports["server"].rows if "test" in row][-1])

    @property
    def bytes(self) -> int:
        return sum(sum(report.traffic.size.values()) for report in self.reports.values())

    def score(self, metric: str = "psnr") -> float:
        return sum(float(finding.verdict.scores[metric]) for finding in self.findings) / len(self.findings)

    def chance(self) -> float:
        return sum(float(finding.verdict.chance["psnr"]) for finding in self.findings) / len(self.findings)


def digits(stages: Sequence[Mapping[str, Any]] = (), **settings: Any) -> ScenarioFile:
    """Handwritten digits, halved between two parties; models stand still for 90 rounds and then learn for 110."""
    scenario = {
        "kind": "leakage",
        "exchange": "shared",
        "data": {"kind": "sklearn", "name": "digits", "rows": 60, "test": 300},
        "parties": {"left": {"columns": "0:8, 0:4"}, "right": {"columns": "0:8, 4:8"}},
        "bottom": {"kind": "mlp", "hidden": [48]},
        "embedding": 24,
        "batch": 20,
        "steps": 200,
        "optimiser": {"kind": "adam", "lr": 0.005},
        "window": {"from": 0, "rounds": 90},
        **settings,
    }
    links = [{"from": "*", "to": "server", "message": "ParameterGradient", "sender": list(stages)}]
    trial = {"attack": {"kind": "cafe"}, "seat": "server", "knows": ["rows", "bottom"]}
    document = {"name": "test", "seed": 3, "scenario": scenario, "links": links, "trials": [trial]}
    return validate(document, "test", {})


def run(file: ScenarioFile) -> Outcome:
    return Outcome({report.role: report for report in asyncio.run(play_all(file, memory(file.plan())))})


@pytest.fixture(scope="module")
def undefended() -> Outcome:
    return run(digits())


@pytest.fixture(scope="module")
def faked() -> Outcome:
    return run(digits([{"kind": "fake_gradient", "sigma": 1.1}]))


def test_without_a_defence_the_attack_wins(undefended: Outcome) -> None:
    assert undefended.score() == 60.0
    assert undefended.chance() < 15.0


def test_fakes_bring_the_attack_down_to_the_level_of_the_mean_image(undefended: Outcome, faked: Outcome) -> None:
    assert faked.chance() == undefended.chance()
    assert faked.score() < faked.chance() + 2.0


def test_a_stage_at_the_attackers_own_end_hides_nothing_from_it(undefended: Outcome) -> None:
    base = digits().resolved()
    link = {"to": "server", "message": "ParameterGradient", "receiver": [{"kind": "fake_gradient"}]}
    found = run(validate({**base, "links": [link]}, "test", {}))
    assert found.score() == 60.0
    assert digest(found.reports["left"].tensors) != digest(undefended.reports["left"].tensors)


def test_fakes_cost_the_task_little_and_no_bytes(undefended: Outcome, faked: Outcome) -> None:
    assert undefended.accuracy > 0.75
    assert faked.accuracy > undefended.accuracy - 0.05
    assert faked.bytes == undefended.bytes


def test_the_models_trained_on_what_the_defence_sent(undefended: Outcome, faked: Outcome) -> None:
    for party in ("left", "right"):
        defended, plain = faked.reports[party].tensors, undefended.reports[party].tensors
        assert digest(defended) != digest(plain)
        fresh = build(digits(), party)
        assert all(not torch.allclose(defended[name], before, atol=1e-3) for name, before in fresh.items())
    stages = faked.reports["left"].stages
    assert [(s["link"], s["stage"], s["tensors"]) for s in stages] == [
        ("left -> server, at left", "fake_gradient", 200 * 4)
    ]


def build(file: ScenarioFile, role: RoleId) -> dict[str, Tensor]:
    """The initial parameters of a seat."""
    seat = file.plan().seats[role].build(Rng.root(file.seed), Rng.secret(simulated_secret(file.seed, role)))
    return {name: tensor.detach() for name, tensor in seat.tensors().items()}


def test_absolute_fakes_ruin_plain_sgd_and_relative_ones_do_not() -> None:
    sgd = {"optimiser": {"kind": "sgd", "lr": 0.5}, "steps": 140, "window": {"from": 0, "rounds": 1}}
    plain, absolute, relative = (
        run(digits(stages, **sgd)).accuracy
        for stages in ([], [{"kind": "fake_gradient"}], [{"kind": "fake_gradient", "sigma": 1.0, "scale": "relative"}])
    )
    assert relative > plain - 0.05
    assert absolute < plain - 0.3


def test_noise_on_parameter_gradients_costs_cafe_twenty_db_a_decade() -> None:
    levels = [relative_noise(sigma) for sigma in (1e-5, 1e-4, 1e-3)]
    assert levels[0] - levels[1] == pytest.approx(20.0, abs=1.5)
    assert levels[1] - levels[2] == pytest.approx(20.0, abs=1.5)


def relative_noise(sigma: float) -> float:
    """Mean signal-to-noise ratio (dB) of the rows that cafe claims, without the victim's cap of 60 dB."""
    noise = {"kind": "gaussian_noise", "sigma": sigma, "scale": "relative"}
    file = digits([noise], steps=90, bottom={"kind": "linear"}, parties={"all": {"columns": "0:8, 0:8"}})
    (finding,) = run(file).findings
    seat: Any = file.plan().seats["all"].build(Rng.root(3), Rng.secret(simulated_secret(3, "all")))
    truth = seat.bottom.features["train"][finding.claim.rows]
    return float(psnr(truth, finding.claim.values, cap=1e9).mean())
