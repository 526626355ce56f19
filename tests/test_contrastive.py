"""Pre-training without labels, fine-tuning and attacks over a federation: what each stage computes and leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL
from torch import Tensor, nn
from torch.nn import functional

from fedsim import tensors
from fedsim.config import ScenarioFile, validate
from fedsim.contrast.balls import Ball
from fedsim.contrast.losses import ntxent
from fedsim.contrast.views import high_pass
from fedsim.errors import ConfigError, DataError, DivergedError, OutputError
from fedsim.outcome import SeatReport
from fedsim.parties.contrast import Finetuning, Robustness, Threat, rate
from fedsim.parties.contrast.assaults import AUTO, LONG, PGD, RESTARTS, alone, sieges
from fedsim.parties.data import Data
from fedsim.parties.pretraining import Pretraining
from fedsim.plugins import load, names
from fedsim.runtime.local import Local
from fedsim.seeding import Rng, simulated_secret
from fedsim.state import digest
from fedsim.testing.plugins import check_metadata

SCENARIO: dict[str, Any] = {
    **SMALL["contrastive"]["scenario"],
    "steps": 6,
    "pretraining": {"kind": "advcl"},
    "finetuning": {"mode": "slf", "steps": 5, "batch": 20},
}
PARTIES = ("north", "east")


def make_file(**more: Any) -> ScenarioFile:
    return validate({"seed": 3, "scenario": {**SCENARIO, **more}}, "test", {})


def run(**more: Any) -> dict[str, SeatReport]:
    return {report.role: report for report in Local().run(make_file(**more), lambda role, row: None)}


def bottoms(reports: Mapping[str, SeatReport]) -> dict[str, str]:
    return {party: digest(reports[party].tensors) for party in PARTIES}


def scores(reports: Mapping[str, SeatReport]) -> Mapping[str, float]:
    found: Mapping[str, float] = next(row["test"] for row in reports["server"].rows if "test" in row)
    return found


def build(file: ScenarioFile) -> dict[str, Any]:
    public = Rng.root(file.seed)
    secrets = {role: Rng.secret(simulated_secret(file.seed, role)) for role in file.plan().seats}
    return {role: seat.build(public, secrets[role]) for role, seat in file.plan().seats.items()}


# pre-training


def test_no_label_has_a_part_in_the_pre_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other labels, other tops, the same bottoms to the bit; and the label party speaks last."""
    from fedsim.parties.data.sklearn import Sklearn

    honest = run()
    labels = Sklearn.labels
    monkeypatch.setattr(Sklearn, "labels", lambda self: labels(self)[::-1].copy())
    other = run()
    assert bottoms(other) == bottoms(honest)
    assert digest(other["server"].tensors) != digest(honest["server"].tensors)
    assert dict(honest["registry"].traffic.frames) == {("server", "Hello"): 1, ("server", "Labels"): 1}


def test_the_server_is_built_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsim.parties.data.sklearn import Sklearn

    def gone(self: Sklearn) -> Any:
        raise AssertionError("the server read the data")

    monkeypatch.setattr(Sklearn, "load", gone)
    file = make_file()
    file.plan().seats["server"].build(Rng.root(3), Rng.root(4))


def test_pre_training_over_the_federation_is_that_of_the_joint_network() -> None:
    """AdvCL without pseudo-labels with torch's own autograd and Adam over both slices at once."""
    more: dict[str, Any] = {"pretraining": {"kind": "advcl", "pseudo": None}, "steps": 3}
    file = make_file(**more)
    roles, reports = build(file), run(**more)
    server, parties = roles["server"], [roles[p] for p in PARTIES]
    course, scenario = server.course, file.scenario
    objective_rng, widths = server.rng.child("objective"), server.widths
    from fedsim.parties.contrast.objective import JOINED, Objective

    head = Objective(course.pretraining, widths, 60, server.optimiser, None, objective_rng).parts[JOINED].network.module
    nets = nn.ModuleList([party.bottom.network.module for party in parties])
    adam = torch.optim.Adam([*nets.parameters(), *head.parameters()], lr=scenario.optimiser.lr)
    losses = []
    for turn in course.pretraining_schedule(60).turns():
        node, xs = course.public.child("views", turn.index), [p.bottom.features["train"][turn.rows] for p in parties]
        clean = [
            torch.cat([*(course.augmentation.apply(x, node.child(k)) for k in range(2)), high_pass(x, 2.0)]) for x in xs
        ]
        here = []
        for party, x in zip(PARTIES, xs, strict=True):
            secret = Rng.secret(simulated_secret(3, party)).child("contrast")
            here.append(Ball(x, 0.1).drawn(secret.child("pretraining", turn.index)))

        def loss(struck: list[Tensor], clean: list[Tensor] = clean) -> Tensor:
            z = torch.cat([net(torch.cat(pair)) for net, *pair in zip(nets, clean, struck, strict=True)], dim=1)
            return ntxent(head(z).view(4, 20, -1), 0.5)

        for _ in range(2):
            here = [x.requires_grad_() for x in here]
            g = torch.autograd.grad(loss(here), here)
            here = [Ball(x, 0.1).stepped(h.detach(), d, 0.025) for x, h, d in zip(xs, here, g, strict=True)]
        adam.param_groups[0]["lr"] = scenario.optimiser.lr * rate(turn.index, 3)
        adam.zero_grad()
        total = loss(here)
        total.backward()
        adam.step()
        losses.append(total.item())
    found = [row["loss"] for row in reports["server"].rows if "loss" in row][:3]
    assert found == pytest.approx(losses, rel=1e-4)
    for party, net in zip(PARTIES, nets, strict=True):
        for name, tensor in net.named_parameters():
            assert torch.allclose(reports[party].tensors[name], tensor, atol=2e-4), name


@pytest.mark.parametrize("kind", names("pretraining"))
def test_every_preset_reads_as_its_paper_and_runs(kind: str) -> None:
    plan = load("pretraining", Pretraining, {"kind": kind})
    check_metadata(plan)
    views = {"simclr": (2, 0), "rocl": (2, 1), "acl": (2, 2), "advcl": (3, 1), "ours": (2, 1)}
    assert (plan.clean, plan.attacked) == views[kind]
    assert (plan.pseudo is not None) == (kind in ("advcl", "ours"))
    assert plan.dual == (kind == "acl")
    assert bool(plan.cross) == (kind == "ours")
    found = run(pretraining={"kind": kind, **({"pseudo": {"sizes": [2, 5]}} if plan.pseudo else {})})
    losses = [row["loss"] for row in found["server"].rows if "loss" in row]
    assert len(losses) == 6 + 5
    assert bottoms(found) != bottoms(run(pretraining=None))


def test_by_itself_no_party_hears_of_another() -> None:
    """With own losses only, what the other party holds changes nothing here."""
    alone = {"kind": "advcl", "pseudo": None, "joint": 0.0, "own": 1.0}
    one, other = run(pretraining=alone), run(pretraining=alone, bottom={"kind": "norm_cnn", "channels": [4, 4]})
    mixed = {p: {**SCENARIO["parties"][p]} for p in PARTIES}
    mixed["east"]["bottom"] = {"kind": "norm_cnn", "channels": [4, 4]}
    half = run(pretraining=alone, parties=mixed)
    assert bottoms(half) == {"north": bottoms(one)["north"], "east": bottoms(other)["east"]}


def test_the_steps_of_all_its_training_are_known_beforehand() -> None:
    for pretraining in ({"kind": "simclr"}, None):
        done = [row for row in run(pretraining=pretraining)["server"].rows if "loss" in row]
        assert len(done) == make_file(pretraining=pretraining).scenario.training_steps()


def test_settings_that_mean_nothing_are_refused() -> None:
    for settings, words in (
        ({"joint": 0.0}, "joint, cross, own: all are 0"),
        ({"dual": True}, "dual: expected adversarial: both, found none"),
        ({"pull": 1.0}, "pull: expected one attacked view, found adversarial: none"),
    ):
        with pytest.raises(ValueError, match=words):
            load("pretraining", Pretraining, {"kind": "simclr", **settings})
    with pytest.raises(ConfigError, match="registry: 'north' is a seat already"):
        make_file(registry="north")
    with pytest.raises(ConfigError, match="exchange: this scenario has none but its default"):
        make_file(exchange="shared")
    with pytest.raises(ConfigError, match=r"pseudo\.sizes: 61 clusters are asked of 60 rows"):
        run(pretraining={"kind": "advcl", "pseudo": {"sizes": [61]}})
    table = {"data": {"kind": "sklearn", "name": "wine"}, "bottom": {"kind": "mlp"}}
    columns = {"north": {"columns": "0:6"}, "east": {"columns": "6:13"}}
    with pytest.raises(ConfigError, match="expected images, found rows of shape"):
        build(make_file(**table, parties=columns))


def test_bottoms_start_from_a_run_and_frozen_ones_stay(tmp_path: Path) -> None:
    found = run()
    for party in PARTIES:
        tensors.store(tmp_path / f"{party}.safetensors", found[party].tensors)
    other = run(pretraining=None, pretrained=str(tmp_path), finetuning={"mode": "alf", "steps": 3, "batch": 20})
    assert bottoms(other) == bottoms(found)
    moved = run(pretraining=None, pretrained=str(tmp_path), finetuning={"mode": "aff", "steps": 3, "batch": 20})
    assert bottoms(moved) != bottoms(found)
    with pytest.raises(OutputError, match=r"north.safetensors: 0.weight is \(\(4, 1, 3, 3\)"):
        run(pretraining=None, pretrained=str(tmp_path), bottom={"kind": "norm_cnn", "channels": [8, 8]})
    with pytest.raises(
        OutputError, match=r"lacks '10\.bias', '10\.weight', '6\.weight'; expected exactly the 11 tensors"
    ):
        run(pretraining=None, pretrained=str(tmp_path), bottom={"kind": "norm_cnn", "channels": [4, 8, 8]})


def test_archives_of_another_size_are_cut_after_they_are_resized(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (80, 10, 10), dtype=np.uint8), y=np.arange(80) % 4)
    data = {"kind": "npz", "path": str(tmp_path / "x.npz"), "size": 8, "rows": 60, "test": 12}
    images = load("data", Data, data)
    halves = {"north": "0:4, 0:8", "east": "4:8, 0:8"}
    found = [images.read(images.part(party, halves)) for party in PARTIES]
    assert [x.shape for x in found] == [(80, 1, 4, 8)] * 2
    stored = torch.from_numpy(np.load(tmp_path / "x.npz")["x"]).float()[:, None]
    whole = functional.interpolate(stored, (8, 8), mode="bilinear", antialias=True).numpy() / 255
    assert np.abs(np.concatenate(found, axis=2) - whole).max() < 0.51 / 255
    assert scores(run(data=data))["accuracy"] >= 0


# fine-tuning


def test_what_each_mode_trains_and_what_crosses_the_wire() -> None:
    start, expected = bottoms(run(pretraining=None)), {"slf": 0, "alf": 2, "full": 1, "aff": 3, "trades": 3}
    for mode, answers in expected.items():
        found = run(pretraining=None, finetuning={"mode": mode, "steps": 4, "batch": 20})
        assert (bottoms(found) == start) == (not Finetuning.model_validate({"mode": mode}).moves_bottoms), mode
        assert found["server"].traffic.frames["north", "Gradient"] == 4 * answers


# attacks


def test_every_siege_is_at_least_as_strong_as_it_says() -> None:
    plan = Robustness.model_validate({"restarts": 3, "radii": [0.4]})
    tried = sieges(PARTIES, plan, Threat.model_validate({}), 10)
    assert list(tried) == [PGD, alone("north"), alone("east"), LONG, RESTARTS, AUTO, "PGD, eps 0.4"]
    assert tried[alone("east")].assaults[0].seats == ("east",)
    assert tried[RESTARTS].after == LONG
    assert [a.nth for a in tried[RESTARTS].assaults] == [1, 2]
    assert [a.target for a in tried[AUTO].assaults] == list(range(10))
    assert "PGD, north alone" not in sieges(PARTIES[:1], plan, Threat.model_validate({}), 10)


@pytest.fixture(scope="module")
def trained() -> Mapping[str, Mapping[str, float]]:
    """A little of what the scenario is for: without and with an attacked view."""
    base = {
        "data": {"kind": "sklearn", "name": "digits", "rows": 640, "test": 200},
        "bottom": {"kind": "norm_cnn", "channels": [8, 16]},
        "embedding": 24,
        "batch": 128,
        "steps": 60,
        "optimiser": {"lr": 0.003},
        "threat": {"eps": 0.125, "inner": 3},
        "finetuning": {"steps": 150},
        "robustness": {
            "rows": 100,
            "long": 60,
            "restarts": 3,
            "auto_steps": 20,
            "targets": 3,
            "radii": [0.06, 0.3, 1.0],
        },
    }
    plans = {"simclr": {"kind": "simclr"}, "attacked": {"kind": "advcl", "high": None}}
    found = {}
    for name, plan in plans.items():
        reports = run(**base, pretraining=plan)
        figures = {figure["title"]: figure for figure in reports["server"].figures}
        curve = figures["Accuracy against eps"]["lines"][0]
        found[name] = {**scores(reports), **{f"eps {x:g}": y for x, y in zip(curve["x"], curve["y"], strict=True)}}
    return found


def test_an_attacked_view_leaves_robustness_in_frozen_bottoms(trained: Mapping[str, Mapping[str, float]]) -> None:
    plain, robust = trained["simclr"], trained["attacked"]
    assert robust["pgd_accuracy"] > plain["pgd_accuracy"] + 0.1
    assert robust["accuracy"] > plain["accuracy"] - 0.03


def test_a_stronger_attack_leaves_less(trained: Mapping[str, Mapping[str, float]]) -> None:
    """Masked gradients would show as accuracy that comes back; a row may stand by rounding."""
    for found in trained.values():
        ladder = ["clean_accuracy", "pgd_accuracy", "pgd_long", "pgd_restarts", "apgd_accuracy"]
        for weak, strong in pairwise(ladder):
            assert found[strong] <= found[weak] + 0.01, (weak, strong)
        for party in PARTIES:
            assert found["pgd_accuracy"] <= found[f"pgd_{party}_alone"] <= found["clean_accuracy"]
        assert found["eps 0"] >= found["eps 0.06"] >= found["eps 0.3"] >= found["eps 1"] == 0


def test_labels_of_other_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsim.parties.contrast.hub import Registry

    shorter = Registry.__init__

    def init(self: Registry, train: Tensor, held_out: Tensor, classes: Any) -> None:
        shorter(self, train[:-1], held_out, classes)

    monkeypatch.setattr(Registry, "__init__", init)
    with pytest.raises(DataError, match="registry has labels of 59 rows, the parties have 60"):
        run()


def test_training_that_left_the_numbers_ends_the_run() -> None:
    with pytest.raises(DivergedError, match="training diverged: "):
        run(pretraining={"kind": "simclr"}, optimiser={"kind": "sgd", "lr": 1e30})


def test_mixed_precision_is_another_run_that_ends_well() -> None:
    found = run(precision="bfloat16")
    assert bottoms(found) != bottoms(run())
    assert all(torch.isfinite(t).all() for party in PARTIES for t in found[party].tensors.values())


def test_a_rate_rises_and_falls_to_a_thousandth() -> None:
    rates = [rate(i, 100, 9) for i in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[9] == pytest.approx(1)
    assert rates[-1] < 0.002
