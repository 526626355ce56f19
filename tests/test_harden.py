"""Training against perturbed weights: the split computes what the joint network would, and each seat undoes what it lent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsim.config import ScenarioFile, validate
from fedsim.errors import ConfigError
from fedsim.experiment import build
from fedsim.outcome import SeatReport
from fedsim.runtime.local import Local
from fedsim.vfl.bounds import margins, spread

SCENARIO: dict[str, Any] = {
    "kind": "weight_faults",
    "data": {"kind": "synthetic", "count": 160, "features": 8, "informative": 8, "test": 60},
    "parties": {"a": {"columns": "0:5"}, "b": {"columns": "5:8", "embedding": 2}},
    "bottom": {"kind": "mlp", "hidden": [6]},
    "embedding": 3,
    "top": {"kind": "mlp", "hidden": [5]},
    "optimiser": {"kind": "sgd", "lr": 0.1},
    "batch": 20,
    "steps": 6,
    "evaluate": 6,
}
WAYS = {
    "robust": {"robust": 0.5, "eps": 0.02, "warmup": 3},
    "norm": {"norm": 0.02},
    "adversarial": {"adversarial": 0.05},
    "noise": {"noise": 0.05},
    "all": {"robust": 0.2, "norm": 0.01, "adversarial": 0.02, "noise": 0.02},
}


def make_file(hardening: dict[str, Any], **more: Any) -> ScenarioFile:
    return validate({"seed": 3, "scenario": {**SCENARIO, "hardening": hardening, **more}}, "test", {})


def run(hardening: dict[str, Any], **more: Any) -> dict[str, SeatReport]:
    return {report.role: report for report in Local().run(make_file(hardening, **more), lambda role, row: None)}


def hub_rows(reports: dict[str, SeatReport], key: str) -> list[Any]:
    hub = next(report for report in reports.values() if report.rows)
    return [row[key] for row in hub.rows if key in row]


def joint(file: ScenarioFile) -> tuple[dict[str, nn.Module], dict[str, Tensor], Tensor, list[Tensor]]:
    """The networks and data of every seat of a file, before training; the labels; and the batches."""
    roles: dict[str, Any] = build(file, "test", file)
    modules = {n: (r.top if n == "server" else r.bottom).network.module for n, r in roles.items()}
    features = {name: role.bottom.features["train"] for name, role in roles.items() if name != "server"}
    turns = [turn for turn in roles["server"].schedule.turns() if turn.purpose == "train" and not turn.rehearsal]
    return modules, features, roles["server"].top.labels, [turn.rows for turn in turns]


def largest_sums(module: nn.Module) -> Tensor:
    found = [w.abs().sum(1).max() + w.abs().sum(0).max() for w in module.parameters() if w.ndim > 1]
    return torch.stack(found).sum()


@pytest.mark.parametrize("exchange", ["split", "shared"])
@pytest.mark.parametrize("way", ["robust", "norm"])
def test_the_split_trains_on_the_loss_of_the_joint_network(way: str, exchange: str) -> None:
    hardening = WAYS[way]
    modules, features, labels, batches = joint(make_file(hardening, exchange=exchange))
    parameters = [p for module in modules.values() for p in module.parameters()]
    for index, rows in enumerate(batches):
        reached = {name: spread(modules[name], x[rows], hardening.get("eps", 0.0)) for name, x in features.items()}
        z, e = (torch.cat([pair[i] for pair in reached.values()], 1) for i in (0, 1))
        logits, fall = margins(modules["server"], z, labels[rows], hardening.get("eps", 0.0), e)
        lead = (logits + fall - logits.gather(1, labels[rows, None]))[torch.arange(20), 1 - labels[rows]]
        term = min(1, (index + 1) / 3) * hardening.get("robust", 0.0) * lead.relu().mean()
        loss = functional.cross_entropy(logits, labels[rows]) + term
        loss = loss + hardening.get("norm", 0.0) * sum(map(largest_sums, modules.values()))
        with torch.no_grad():
            for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p -= 0.1 * g
    found = run(hardening, exchange=exchange)
    for name, module in modules.items():
        for key, expected in module.named_parameters():
            actual = found[name].tensors[f"top.{key}" if name == "server" else key]
            assert torch.allclose(actual, expected, atol=1e-6), f"{name} {key}"


def test_adversarial_weights_take_each_gradient_where_the_rehearsal_led() -> None:
    modules, features, labels, batches = joint(make_file(WAYS["adversarial"]))
    parameters = [p for module in modules.values() for p in module.parameters()]

    def gradients(rows: Tensor) -> tuple[Tensor, ...]:
        z = torch.cat([modules[name](x[rows]) for name, x in features.items()], 1)
        return torch.autograd.grad(functional.cross_entropy(modules["server"](z), labels[rows]), parameters)

    for rows in batches:
        clean = [p.detach().clone() for p in parameters]
        up = gradients(rows)
        with torch.no_grad():
            for p, g in zip(parameters, up, strict=True):
                p += 0.05 * g.sign()
        there = gradients(rows)
        with torch.no_grad():
            for p, before, g in zip(parameters, clean, there, strict=True):
                p.copy_(before - 0.1 * g)
    found = run(WAYS["adversarial"])
    for key, expected in modules["a"].named_parameters():
        assert torch.allclose(found["a"].tensors[key], expected, atol=1e-6)
    assert len(hub_rows(found, "loss")) == 6


@pytest.mark.parametrize("way", WAYS)
def test_exchanges_and_places_of_the_labels_agree(way: str) -> None:
    split, shared = (run(WAYS[way], exchange=exchange) for exchange in ("split", "shared"))
    plain = run({})
    assert hub_rows(split, "loss") == hub_rows(shared, "loss")
    assert hub_rows(split, "loss") != hub_rows(plain, "loss")
    assert hub_rows(split, "test") == hub_rows(shared, "test")
    at_party = run(WAYS[way], labels="b")
    assert len(hub_rows(at_party, "loss")) == 6
    assert run(WAYS[way])["a"].tensors.keys() == plain["a"].tensors.keys()


def test_noise_is_taken_away_before_the_update() -> None:
    still = {"optimiser": {"kind": "sgd", "lr": 1e-12}}
    for way in ("noise", "adversarial", "all"):
        noisy, plain = run(WAYS[way], **still), run({}, **still)
        for role, report in plain.items():
            assert all(torch.allclose(t, noisy[role].tensors[n], atol=1e-6) for n, t in report.tensors.items())


def test_what_each_way_costs_in_frames_and_bytes() -> None:
    def sent(way: dict[str, Any]) -> tuple[int, int]:
        traffic = run(way)["a"].traffic
        return traffic.frames["server", "Embedding"], traffic.size["server", "Embedding"]

    (frames, size), (rehearsed, _), (_, doubled) = sent({}), sent(WAYS["adversarial"]), sent(WAYS["robust"])
    assert rehearsed == frames + 6  # one exchange more a batch
    assert doubled == size + 6 * 20 * 3 * 4  # the reach beside each embedding


def test_robust_refuses_dropout() -> None:
    with pytest.raises(ConfigError, match="takes models without dropout"):
        run(WAYS["robust"], bottom={"kind": "mlp", "dropout": 0.1})
