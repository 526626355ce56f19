"""One perturbation against several models, images or transformations: the worst case beats the average, on every runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small import small
from torch import Tensor
from torch.nn import functional

from fedsim import experiment
from fedsim.config import ScenarioFile, read, validate
from fedsim.errors import ConfigError, DataError, ProtocolError
from fedsim.message import RoleId
from fedsim.minmax.balls import Ball, project
from fedsim.minmax.pgd import climb
from fedsim.outcome import SeatReport
from fedsim.parties.minmax import Query
from fedsim.parties.minmax.training import train
from fedsim.parties.minmax.victim import ModelVictim, margins
from fedsim.runtime.local import memory, play_all
from fedsim.runtime.processes import Processes
from fedsim.runtime.ray import Ray
from fedsim.scenarios.minmax import build_victim
from fedsim.seeding import Rng
from fedsim.state import digest
from fedsim.testing import check_runtime

MODELS: Mapping[str, Any] = {
    "cnn": {"model": {"kind": "cnn", "channels": [8, 16]}, "training": {"epochs": 8, "optimiser": {"lr": 0.005}}},
    "firm": {
        "model": {"kind": "cnn", "channels": [8, 16]},
        "training": {
            "epochs": 12,
            "optimiser": {"lr": 0.005},
            "against": {"norm": "linf", "eps": 0.1, "step": 0.04},
            "steps": 4,
        },
    },
    "linear": {"model": {"kind": "linear"}, "training": {"epochs": 8}},
}
SETTINGS: Mapping[str, Any] = {
    "kind": "minmax",
    "data": {"kind": "sklearn", "name": "digits", "test": 250},
    "victims": MODELS,
    "balls": [{"norm": "linf", "eps": 0.18}],
    "examples": 150,
}


def file(**more: Any) -> ScenarioFile:
    """The scenario; settings of the attack and of the domains by name."""
    return validate({"scenario": {**SETTINGS, **more}, "seed": 3}, "minmax", {})


def play(one: ScenarioFile) -> dict[RoleId, SeatReport]:
    return {report.role: report for report in asyncio.run(play_all(one, memory(one.plan())))}


def numbers(one: ScenarioFile) -> dict[str, float]:
    return dict(play(one)["attacker"].rows[-1]["test"])


def table(report: SeatReport) -> dict[str, dict[str, float]]:
    grid = next(figure for figure in report.figures if figure["title"] == "Fooled")
    return {
        row: dict(zip(grid["columns"], values, strict=True))
        for row, values in zip(grid["rows"], grid["values"], strict=True)
    }


@pytest.fixture(scope="module", autouse=True)
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Models of these settings are trained once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDSIM_CACHE", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", "off")


@pytest.fixture(scope="module")
def minmax() -> SeatReport:
    return play(file())["attacker"]


def test_min_max_fools_all_models_at_once_more_often_than_the_average(minmax: SeatReport) -> None:
    average = numbers(file(attack={"rule": "average"}))
    found = minmax.rows[-1]["test"]
    assert found["joint_success"] > average["joint_success"] + 0.05
    assert found["examples"] == average["examples"] == 150
    assert found["joint, linf 0.18"] == found["joint_success"]


def test_the_weight_goes_to_models_that_are_hard_to_fool(minmax: SeatReport) -> None:
    of = table(minmax)["linf 0.18"]
    assert of["cnn"] > max(of["firm"], of["linear"])
    assert of["weight of cnn"] < min(of["weight of firm"], of["weight of linear"])
    assert sum(of[f"weight of {name}"] for name in MODELS) == pytest.approx(1, abs=1e-5)


def test_with_exact_weights_an_infinite_gamma_is_the_average_on_real_models() -> None:
    limit, average = (play(file(attack=attack)) for attack in ({"gamma": 1e12, "inner": "exact"}, {"rule": "average"}))
    for name in ("joint_success", "domain_success"):
        assert limit["attacker"].rows[-1]["test"][name] == average["attacker"].rows[-1]["test"][name]


def test_heuristics_use_the_weights_they_are_given(minmax: SeatReport) -> None:
    prior = {"cnn": 1, "firm": 5, "linear": 4}
    of = table(play(file(attack={"rule": "prior", "weights": prior}))["attacker"])["linf 0.18"]
    assert [of[f"weight of {name}"] for name in MODELS] == pytest.approx([0.1, 0.5, 0.4])
    of = table(play(file(attack={"rule": "without", "left_out": "firm"}))["attacker"])["linf 0.18"]
    assert [of[f"weight of {name}"] for name in MODELS] == pytest.approx([0.5, 0, 0.5])
    static = table(play(file(attack={"rule": "static"}))["attacker"])["linf 0.18"]
    ends = table(minmax)["linf 0.18"]
    assert [static[f"weight of {name}"] for name in MODELS] == pytest.approx(
        [ends[f"weight of {name}"] for name in MODELS], abs=1e-6
    )


def test_a_larger_ball_fools_more_and_only_right_images_count() -> None:
    found = numbers(file(balls=[{"norm": "l2", "eps": 0.01}, {"norm": "l2", "eps": 1}, {"norm": "l2", "eps": 3}]))
    assert found["joint, l2 0.01"] < 0.02  # all were right before
    assert 0.2 < found["joint, l2 1"] < found["joint, l2 3"]
    assert found["joint, l2 3"] > 0.95


@pytest.mark.parametrize(
    ("ball", "most"),
    [
        ({"norm": "l0", "eps": 8}, 0.95),
        ({"norm": "l1", "eps": 5}, 0.95),
    ],
)
def test_the_pointed_balls_are_attacked_as_well(ball: dict[str, Any], most: float) -> None:
    found = numbers(file(balls=[ball], attack={"iterations": 30}))
    assert 0.2 < found["joint_success"] < most


def test_one_perturbation_for_a_group_of_images() -> None:
    one = {"victims": {"cnn": MODELS["cnn"]}, "balls": [{"norm": "linf", "eps": 0.25}]}
    over = {"kind": "inputs", "groups": [1, 2, 5]}
    found = numbers(file(**one, over=over))
    average = numbers(file(**one, over=over, attack={"rule": "average"}))
    name = "joint, {} images, linf 0.25"
    assert found[name.format(1)] > found[name.format(2)] > found[name.format(5)] > 0
    assert found[name.format(1)] == average[name.format(1)]  # of one image there is nothing to weigh
    assert found[name.format(5)] > average[name.format(5)]


def test_one_perturbation_whatever_becomes_of_the_image() -> None:
    transforms = ["identity", "brighter", "gamma", "crop"]
    victims = {"cnn": {"model": {"kind": "mlp"}, "training": {"epochs": 10, "transforms": transforms}}}
    report = play(file(victims=victims, over={"kind": "transformations", "transforms": transforms}))["attacker"]
    assert 0.1 < report.rows[-1]["test"]["joint_success"] < 1
    assert set(transforms) < set(table(report)["linf 0.18"])


# where it is played


@pytest.mark.usefixtures("_forget")
def test_the_same_numbers_with_a_process_a_seat() -> None:
    check_runtime(Processes(), small("minmax"))


@pytest.mark.usefixtures("_forget", "ray_session")
def test_the_same_numbers_with_four_victims_as_actors() -> None:
    one = small("minmax")
    victims = one.resolved()["scenario"]["victims"]
    four = {f"{name}{i}": victim for name, victim in victims.items() for i in (1, 2)}
    where = {role: {"cpus": 0.5} for role in ("attacker", *four)}
    settings = {**one.resolved()["scenario"], "victims": four}
    check_runtime(Ray(), validate({"scenario": settings, "placement": where}, "four", {}))


def test_a_model_that_was_kept_is_the_one_that_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path))
    first = play(small("minmax"))
    kept = sorted(tmp_path.iterdir())
    times = [path.stat().st_mtime_ns for path in kept]
    again = play(small("minmax"))
    assert len(kept) == 2
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())] == times
    for role, report in first.items():
        assert digest(report.tensors) == digest(again[role].tensors)
    assert first["attacker"].rows == again["attacker"].rows
    kept[0].write_bytes(b"damaged")
    assert play(small("minmax"))["attacker"].rows == first["attacker"].rows
    play(small("minmax", seed=1))
    assert len(list(tmp_path.iterdir())) == 4  # other seeds have models of their own


def test_the_page_shows_who_was_fooled_and_how_images_look(tmp_path: Path) -> None:
    page = (experiment.run(file(), tmp_path / "run") / "report.html").read_text("utf-8")
    for words in (
        "Fooled",
        "weight of linear",
        "Every domain fooled at once",
        "Weights of the domains",
    ):
        assert words in page


# what a victim does


def victim(model: Mapping[str, Any] | None = None) -> ModelVictim:
    scenario: Any = file(victims={"it": {"model": model or {"kind": "linear"}}}).scenario
    return build_victim(scenario, "it", Rng.root(0), Rng.secret(b"s"))


def test_a_margin_is_what_the_true_class_leads_by() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, 1.0]])
    assert margins(logits, torch.tensor([0, 2])).tolist() == [0.5, -3.0]


def test_a_gradient_is_that_of_the_margin() -> None:
    role = victim()
    x, labels = role.x[:4], role.labels[:4]
    answer = role.answer(Query(0, x, labels, True))
    assert answer.wrong.tolist() == (answer.loss < 0).tolist()
    step = 1e-2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    moved = (x + step).clamp(0, 1)
    change = role.answer(Query(0, moved, labels, False)).loss - answer.loss
    assert change == pytest.approx(((moved - x) * answer.g).flatten(1).sum(dim=1), abs=1e-3)


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (torch.zeros(2, 1, 7, 8), r"expected images \(1, 8, 8\) with a label each, found \(2, 1, 7, 8\)"),
        (torch.full((2, 1, 8, 8), 1.5), r"an image to judge has values outside of \[0, 1\]"),
        (torch.full((2, 1, 8, 8), torch.nan), r"an image to judge has values outside of \[0, 1\]"),
    ],
)
def test_what_is_no_image_is_not_judged(x: Tensor, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        victim().answer(Query(0, x, torch.zeros(2, dtype=torch.int64), True))


# what cannot be


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"victims": {"attacker": MODELS["cnn"]}}, "'attacker' cannot name a victim"),
        ({"over": {"kind": "inputs"}}, "over: inputs are of one victim; found 3"),
        ({"attack": {"rule": "without", "left_out": "cnm"}}, "attack.left_out: no domain 'cnm'; did you mean 'cnn'"),
        (
            {"attack": {"rule": "prior", "weights": {"cnn": 1}}},
            "attack.weights: expected a weight for each of cnn, firm, linear",
        ),
        ({"balls": []}, "balls"),
        ({"balls": [{"norm": "l0", "eps": 1.5}]}, "of l0 expected a whole number of inputs"),
        ({"data": {"kind": "tables", "id": "id"}}, "data"),
    ],
)
def test_what_makes_no_attack_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        file(**change)


def test_a_table_has_no_images() -> None:
    with pytest.raises(ConfigError, match=r"scenario\.data: expected images; 'sklearn' gives a table"):
        play(file(data={"kind": "sklearn", "name": "wine"}))


def test_too_few_right_images_are_told() -> None:
    victims = {"linear": {"model": {"kind": "linear"}, "training": {"epochs": 1}}}
    with pytest.raises(DataError, match=r"of 3 images are right in every domain; at least 5 are needed"):
        play(file(victims=victims, over={"kind": "inputs"}, data={"kind": "sklearn", "name": "digits", "test": 3}))


# against another library


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_our_descent_goes_where_that_of_foolbox_goes(norm: Any) -> None:
    """The same model, images, radius and steps, without a random start."""
    foolbox = pytest.importorskip("foolbox", reason="the cross-check needs foolbox (pip install foolbox)")
    role = victim({"kind": "mlp", "hidden": [32]})
    train(role.network, role.x, role.labels, role.training, role.rng, lambda done: None)
    x, labels, module = role.x[:60], role.labels[:60], role.network.module.eval()
    eps, step, steps = {"linf": 0.2, "l2": 1.0}[norm], 0.05, 12

    def uphill(moved: Tensor) -> Tensor:
        moved = moved.detach().requires_grad_()
        return torch.autograd.grad(functional.cross_entropy(module(moved), labels, reduction="sum"), moved)[0]

    ours = climb(x, uphill, Ball(norm=norm, eps=eps, step=step), steps)
    attacks = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}
    attack = attacks[norm](abs_stepsize=step, rel_stepsize=None, steps=steps, random_start=False)
    model = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
    _, theirs, _ = attack(model, x, labels, epsilons=eps)
    losses = [functional.cross_entropy(module(each), labels).item() for each in (x, ours, theirs)]
    assert losses[1] > losses[0] + 0.2
    if norm == "linf":
        assert ours == pytest.approx(theirs, abs=1e-5)
    else:  # theirs scales into the ball and clips to the box after; ours finds the closest point in both
        assert losses[1] >= losses[2] - 1e-4
        flat = x.flatten(1)
        assert project((theirs - x).flatten(1), -flat, 1 - flat, "l2", eps) == pytest.approx(
            (theirs - x).flatten(1), abs=1e-5
        )


def test_the_shipped_scenario_is_won_by_min_max() -> None:
    arms = read("minmax", ["scenario.balls=[{norm: linf, eps: 0.2}]", "scenario.examples=200"]).arms()
    found = {name: numbers(arms[name])["joint_success"] for name in ("average", "min-max")}
    assert found["min-max"] > found["average"] + 0.05
