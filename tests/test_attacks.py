"""Attacks win where a correct attack must, fail where theory says so, and never peek."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import fedsim.models
import fedsim.scenarios.defences
from fedsim import metrics
from fedsim.config import ScenarioFile, validate
from fedsim.errors import ThreatModelError
from fedsim.message import RoleId
from fedsim.outcome import Finding
from fedsim.runtime.local import memory, play_all
from fedsim.scenarios.attacks.cafe import Cafe
from fedsim.scenarios.attacks.norm_scoring import NormScoring
from fedsim.seeding import Rng, simulated_secret
from fedsim.threat import Attack, Fact, Knowledge
from fedsim.vfl.messages import Gradient

SCALE = '''
from fedsim.channel import Stage
from fedsim.message import with_tensors
from fedsim.threat import Defence


class Seven(Defence):
    """Seven times every number, or every number of the weights and none of the biases."""

    weights_only: bool = False

    def stage(self):
        def change(name, tensor):
            return tensor if self.weights_only and tensor.ndim < 2 else 7 * tensor

        return Stage(lambda rng: None, lambda message, state: (with_tensors(message, change), state))
'''
MODELS = {
    "biasless": "nn.Linear(shape[0], out, bias=False), nn.Linear(out, out)",
    "unlinear": "nn.LayerNorm(shape[0]), nn.ReLU()",
}
MODEL = '''
from torch import nn

from fedsim.models import ModelConfig


class Odd(ModelConfig):
    """A bottom that cafe cannot attack."""

    def build(self, shape, out):
        return nn.Sequential({layers})
'''
TABLE = {"kind": "synthetic", "count": 40, "features": 12, "informative": 8, "test": 16}  # 24 training rows
DIGITS = {"kind": "mnist5k", "rows": 16, "test": 16}
LINEAR, MLP = {"kind": "linear"}, {"kind": "mlp", "hidden": [16]}
CNN = {"kind": "cafe_cnn", "channels": [16, 32], "units": 32}
QUARTERS = {
    name: {"columns": block}
    for name, block in zip("abcd", ("0:14, 0:14", "0:14, 14:28", "14:28, 0:14", "14:28, 14:28"), strict=True)
}
KNOWS = ("rows", "bottom")


def parties(count: int) -> dict[str, dict[str, str]]:
    width = 12 // count
    return {name: {"columns": f"{width * i}:{width * i + width}"} for i, name in enumerate("abcdef"[:count])}


def leak(
    rounds: int = 40,
    frozen: bool = True,
    attacks: Sequence[Mapping[str, Any]] = ({"kind": "cafe"},),
    knows: Sequence[str] = KNOWS,
    links: Sequence[Mapping[str, Any]] = (),
    **settings: Any,
) -> ScenarioFile:
    """A federation with a curious server; it holds the models still for all its rounds, if ``frozen``."""
    scenario = {
        "kind": "leakage",
        "exchange": "shared",
        "data": TABLE,
        "parties": parties(4),
        "bottom": LINEAR,
        "embedding": 8,
        "batch": 8,
        "sampling": "uniform",
        "steps": rounds,
        "evaluate": 1000,
        **({"window": {"from": 0, "rounds": rounds}} if frozen else {}),
        **settings,
    }
    trials = [{"attack": attack, "seat": "server", "knows": knows} for attack in attacks]
    return validate({"name": "test", "seed": 3, "scenario": scenario, "trials": trials, "links": links}, "test", {})


def build(file: ScenarioFile, role: RoleId) -> Any:
    """A seat as it is before the first step, with its truth."""
    return file.plan().seats[role].build(Rng.root(file.seed), Rng.secret(simulated_secret(file.seed, role)))


def attacked(file: ScenarioFile, seat: RoleId = "server") -> list[Finding]:
    reports = asyncio.run(play_all(file, memory(file.plan())))
    return next(report.findings for report in reports if report.role == seat)


def relative_error(file: ScenarioFile, finding: Finding) -> float:
    truth = build(file, finding.aim.victim).bottom.features["train"][finding.claim.rows]
    return float((finding.claim.values - truth).norm() / truth.norm())


def psnr(finding: Finding) -> float:
    return float(finding.verdict.scores["psnr"])


def chance(finding: Finding) -> float:
    return float(finding.verdict.chance["psnr"])


@pytest.mark.parametrize("bottom", [LINEAR, MLP], ids=["linear", "mlp"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_cafe_reads_the_rows_of_tables_exactly_however_many_parties(count: int, bottom: dict[str, Any]) -> None:
    file = leak(parties=parties(count), bottom=bottom)
    findings = attacked(file)
    assert [finding.aim.victim for finding in findings] == list(parties(count))
    for finding in findings:
        assert psnr(finding) == 60.0
        assert chance(finding) < 20.0
        assert relative_error(file, finding) < 1e-4
        assert finding.claim.notes["regime"] == "frozen"
        assert sorted(finding.claim.rows.tolist()) == list(range(24))


def test_a_square_linear_bottom_has_no_secret_left_at_all() -> None:
    file = leak(bottom=LINEAR, embedding=3)
    for finding in attacked(file):
        truth = build(file, finding.aim.victim).bottom.features["train"][finding.claim.rows]
        width = truth.amax(0) - truth.amin(0)
        levels = metrics.psnr(truth / width, finding.claim.values / width, cap=1e9)
        assert float(levels.min()) > 100.0


@pytest.fixture(scope="module")
def digits() -> list[Finding]:
    return attacked(leak(rounds=32, data=DIGITS, parties=QUARTERS, bottom=CNN))


def test_cafe_rebuilds_digits_through_two_convolutions(digits: list[Finding]) -> None:
    assert len(digits) == 4
    for finding in digits:
        assert psnr(finding) > 30.0
        assert chance(finding) < 15.0
        assert float(finding.verdict.scores["share_above_30"]) > 0.7
        assert 0.0 <= float(finding.claim.values.min()) <= float(finding.claim.values.max()) <= 1.0


@pytest.mark.parametrize("batch", [2, 6, 12, 23])
def test_the_size_of_a_batch_is_no_defence(batch: int) -> None:
    file = leak(batch=batch, rounds=60)
    for finding in attacked(file):
        assert finding.claim.notes["rank"] == 24
        assert "warning" not in finding.claim.notes
        assert relative_error(file, finding) < 1e-4


def test_batches_of_unequal_size_are_no_defence_either() -> None:
    file = leak(batch=7, sampling="epochs", rounds=48)  # four batches an epoch, the last of 3 rows
    for finding in attacked(file):
        assert finding.claim.notes["rank"] == 24
        assert relative_error(file, finding) < 1e-4


def test_every_row_in_every_batch_is_one() -> None:
    for finding in attacked(leak(batch=24)):
        assert finding.claim.notes["rank"] == 1
        assert psnr(finding) < chance(finding) + 3.0


def test_as_many_independent_rounds_as_rows_are_enough_and_one_fewer_is_not() -> None:
    file = leak(batch=12, rounds=24)
    for finding in attacked(file):
        assert finding.claim.notes["rank"] == 24
        assert relative_error(file, finding) < 1e-4
    short = leak(batch=12, rounds=23)
    for finding in attacked(short):
        assert finding.claim.notes["rank"] == 23
        assert "too few rounds" in str(finding.claim.notes["warning"])
        assert relative_error(short, finding) > 0.1


def test_half_as_many_rounds_as_rows_leave_next_to_nothing() -> None:
    for finding in attacked(leak(batch=12, rounds=12)):
        assert psnr(finding) < chance(finding) + 3.0


def test_the_attacker_waits_for_the_window_and_uses_only_its_rounds() -> None:
    file = leak(rounds=40, frozen=False, window={"from": 5, "rounds": 30}, optimiser={"kind": "adam", "lr": 0.05})
    for finding in attacked(file):
        assert finding.claim.notes["regime"] == "frozen"
        assert 30 <= int(finding.claim.notes["rounds"]) <= 31  # the last model before the window holds in it, too
        assert relative_error(file, finding) < 1e-4


def test_models_that_move_cost_the_attacker_and_it_says_so() -> None:
    frozen, training = attacked(leak()), attacked(leak(frozen=False, optimiser={"kind": "adam", "lr": 0.005}))
    for still, moving in zip(frozen, training, strict=True):
        assert still.claim.notes["regime"] == "frozen"
        assert moving.claim.notes["regime"] == "training"
        assert psnr(moving) < psnr(still) - 10.0


def test_rows_that_send_no_gradient_are_reported_and_the_others_recovered() -> None:
    file = leak(rounds=60, parties=parties(1), bottom={"kind": "linear", "activation": "relu"}, embedding=2)
    (finding,) = attacked(file)
    bottom = build(file, "a").bottom
    truth = bottom.features["train"]
    dead = (bottom.network.infer(truth) == 0).all(dim=1)[finding.claim.rows]
    assert 0 < int(dead.sum()) < 24
    assert finding.claim.notes["rows without gradient"] == int(dead.sum())
    off = (finding.claim.values - truth[finding.claim.rows]).norm(dim=1) / truth[finding.claim.rows].norm(dim=1)
    assert bool((off[~dead] < 1e-4).all())
    assert torch.equal(finding.claim.values[dead], torch.zeros(int(dead.sum()), 12))


@pytest.mark.parametrize("missing", KNOWS)
def test_cafe_without_a_fact_it_needs_is_refused_before_the_run(missing: str) -> None:
    granted = [name for name in KNOWS if name != missing]
    with pytest.raises(ThreatModelError, match=f"'cafe' needs to know {missing}; granted: {granted[0]}"):
        leak(knows=granted).plan()


def test_attacks_ask_for_what_they_need_and_take_nothing_else() -> None:
    for attack in (Cafe(), NormScoring()):
        with pytest.raises(ThreatModelError, match="the attack needs 'rows'; granted: labels"):
            attack.attack().init(Knowledge({"labels": torch.zeros(3)}), Rng.root(0))
    with pytest.raises(ThreatModelError, match="the attack needs 'bottom'; granted: rows"):
        Cafe().attack().init(Knowledge({"rows": {0: torch.arange(3)}}), Rng.root(0))


def test_cafe_on_the_split_exchange_is_refused() -> None:
    with pytest.raises(ThreatModelError, match="it must see ParameterGradient, Model"):
        leak(exchange="split", frozen=False).plan()


@pytest.mark.parametrize("kind", MODELS)
def test_a_bottom_without_a_linear_layer_with_a_bias_is_refused(
    kind: str, add_kind: Callable[[Any, str, str], str]
) -> None:
    add_kind(fedsim.models, kind, MODEL.format(layers=MODELS[kind]))
    file = leak(bottom={"kind": kind}, embedding=3)
    with pytest.raises(ThreatModelError, match="fully connected layer"):
        attacked(file)


@pytest.fixture
def seven(add_kind: Callable[[Any, str, str], str]) -> Callable[[bool], list[dict[str, Any]]]:
    kind = add_kind(fedsim.scenarios.defences, "seven", SCALE)

    def links(weights_only: bool) -> list[dict[str, Any]]:
        stage = {"kind": kind, "weights_only": weights_only}
        return [{"from": "*", "to": "server", "message": "ParameterGradient", "sender": [stage]}]

    return links


BOTH = ({"kind": "cafe"}, {"kind": "cafe", "matching": "cosine"})
ONE_QUARTER: dict[str, Any] = {"parties": {"a": QUARTERS["a"]}}
REST = ["0:14, 14:28", "14:28, 0:28"]


def test_scaling_everything_alike_hides_nothing(seven: Callable[[bool], list[dict[str, Any]]]) -> None:
    file = leak(links=seven(False))
    for finding in attacked(file):
        assert relative_error(file, finding) < 1e-4


def test_scaling_the_weights_alone_blinds_l2_matching_but_not_cosine_matching(
    seven: Callable[[bool], list[dict[str, Any]]],
) -> None:
    data = DIGITS | {"drop": REST}
    plain = attacked(leak(rounds=32, data=data, bottom=CNN, attacks=BOTH, **ONE_QUARTER))
    scaled = attacked(leak(rounds=32, data=data, bottom=CNN, attacks=BOTH, links=seven(True), **ONE_QUARTER))
    (l2, cosine), (l2_scaled, cosine_scaled) = plain, scaled
    assert psnr(l2) > 30.0
    assert psnr(l2_scaled) < chance(l2_scaled) + 3.0
    assert psnr(cosine_scaled) > psnr(l2_scaled) + 8.0
    assert cosine_scaled.verdict.scores["psnr"] == pytest.approx(float(cosine.verdict.scores["psnr"]), abs=3.0)


@dataclass(frozen=True)
class Guess:
    auc: float
    blind: float


def label_leak(imbalance: float | None) -> Guess:
    data = {"kind": "synthetic", "count": 1500, "features": 8, "informative": 6, "imbalance": imbalance}
    scenario = {
        "kind": "leakage",
        "data": data,
        "parties": {"shop": {"columns": "0:4"}, "bank": {"columns": "4:8"}},
        "batch": 64,
        "steps": 120,
        "optimiser": {"kind": "adam", "lr": 0.005},
    }
    trial = {"attack": {"kind": "norm_scoring"}, "seat": "shop", "victim": "server", "knows": ["rows"]}
    file = validate({"name": "test", "seed": 3, "scenario": scenario, "trials": [trial]}, "test", {})
    (finding,) = attacked(file, "shop")
    return Guess(float(finding.verdict.scores["auc"]), float(finding.verdict.chance["auc"]))


def test_norm_scoring_finds_the_rare_class_and_a_blind_guess_does_not() -> None:
    found = label_leak(imbalance=0.1)
    assert found.auc > 0.9
    assert abs(found.blind - 0.5) < 0.05


def test_norm_scoring_is_near_chance_when_classes_are_equally_frequent() -> None:
    found = label_leak(imbalance=None)
    assert abs(found.auc - 0.5) < 0.15
    assert abs(found.blind - 0.5) < 0.05


def norm_scores(gradients: Sequence[Tensor], batches: Mapping[int, Tensor], **settings: Any) -> Tensor:
    attack = NormScoring(**settings).attack()
    state = attack.init(Knowledge({"rows": batches}), Rng.root(0))
    for step, g in zip(batches, gradients, strict=True):
        state = attack.observe(Gradient(step, g), state)
        state = attack.observe(Gradient(step, 100 * g.flip(0), purpose="evaluate"), state)
    claim = attack.claim(state, lambda done: None)
    assert claim.rows.tolist() == sorted({int(row) for rows in batches.values() for row in rows})
    return claim.values


def test_norms_that_are_all_alike_give_every_row_the_same_score() -> None:
    batches = {step: torch.arange(4 * (step % 3), 4 * (step % 3) + 4) for step in range(6)}
    g = torch.full((4, 5), 0.3)
    directions = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert norm_scores([g * directions] * 6, batches).tolist() == pytest.approx([1.0] * 12)


def test_a_rows_score_is_its_mean_norm_relative_to_its_batch() -> None:
    one, two = torch.tensor([[3.0, 4.0], [0.0, 15.0]]), torch.tensor([[6.0], [2.0]])
    batches = {0: torch.tensor([0, 1]), 3: torch.tensor([1, 2])}
    assert norm_scores([one, two], batches).tolist() == pytest.approx([0.5, (1.5 + 1.5) / 2, 0.5])
    assert norm_scores([one], {0: batches[0]}, rounds=1).tolist() == pytest.approx([0.5, 1.5])


def test_norm_scoring_without_the_rows_is_refused() -> None:
    trial = {"attack": {"kind": "norm_scoring"}, "seat": "a", "victim": "server"}
    base = leak(exchange="split", frozen=False, attacks=()).resolved()
    with pytest.raises(ThreatModelError, match="'norm_scoring' needs to know rows; granted: nothing"):
        validate({**base, "trials": [trial]}, "test", {}).plan()


def test_attacks_that_saw_nothing_claim_nothing() -> None:
    parameters = {"0.weight": torch.zeros(2, 3), "0.bias": torch.zeros(2)}
    fact = Fact({"model": LINEAR, "shape": [3], "embedding": 2}, parameters)
    granted = {"rows": {0: torch.arange(3)}, "bottom": fact}
    for config in (Cafe(), NormScoring()):
        pure: Attack[Any] = config.attack()
        state = pure.init(Knowledge(granted), Rng.root(0))
        with pytest.raises(ThreatModelError, match="saw no"):
            pure.claim(state, lambda done: None)
