"""Buffers are state of a model, as parameters are: trained, held still, sent, kept, restored; and layers may be frozen."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SMALL
from terminal import fine, refused, write_table
from torch import Tensor, nn
from user_models import WAYS, install

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.errors import ConfigError, ThreatModelError
from fedsim.experiment import build
from fedsim.models.linear import Linear
from fedsim.outcome import SeatReport
from fedsim.runtime.local import Local
from fedsim.runtime.processes import Processes
from fedsim.seeding import Rng
from fedsim.supervision import keeping
from fedsim.testing import check_plugin, check_runtime
from fedsim.testing.runtimes import _check_equal
from fedsim.vfl.building import build_network
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Turn

RUN = """\
scenario:
  kind: baseline
  data: {{kind: csv, path: table.csv, label: y, test: 0.3}}
  parties: {{a: {{columns: "u, v"}}, b: {{columns: w}}}}
  labels: {labels}
  exchange: {exchange}
  bottom: {{kind: stateful, way: {way}}}
  top: {{kind: stateful, way: {way}}}
  embedding: 4
  batch: 8
  steps: 30
"""
BUFFERS = ("batch norm", "kept statistics", "instance norm", "spectral norm", "counter")


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    return install(tmp_path / "plug", monkeypatch)


def small(way: str, **changes: Any) -> ScenarioFile:
    model = {"kind": "stateful", "way": way}
    settings = {**SMALL["baseline"]["scenario"], "labels": "server", "bottom": model, "top": model, **changes}
    return config.validate({"name": "stateful", "scenario": settings, "checkpoint": {"every": 2}}, "stateful", {})


def quietly(role: str, row: Mapping[str, Any]) -> None:
    """Watches nothing."""


def weights(reports: list[SeatReport], role: str) -> dict[str, Tensor]:
    return {name: t.clone() for each in reports if each.role == role for name, t in each.tensors.items()}


def answers(*words: str) -> list[list[str]]:
    return [line[1:] for line in list(csv.reader(io.StringIO(fine("predict", *words))))[1:]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("exchange", "labels"), [("split", "server"), ("shared", "b")])
def test_a_row_is_answered_alike_whatever_stands_beside_it(
    plug: Path, tmp_path: Path, way: str, exchange: str, labels: str
) -> None:
    assert check_plugin(plug, {"way": way})
    Path("s.yaml").write_text(RUN.format(way=way, exchange=exchange, labels=labels))
    fine("run", "s.yaml", "--out", "o")
    head, *rows = Path("table.csv").read_text().splitlines()
    together = answers("o", "table.csv")
    for chosen in ([0], [7], [3, 11, 40], list(range(59, -1, -1))):
        Path("some.csv").write_text("\n".join([head, *(rows[i] for i in chosen)]) + "\n")
        for found, i in zip(answers("o", "some.csv"), chosen, strict=True):
            assert found[0] == together[i][0]
            assert [float(p) for p in found[1:]] == pytest.approx([float(p) for p in together[i][1:]], abs=2e-6)


@pytest.mark.parametrize("way", BUFFERS)
def test_both_exchanges_train_the_same_model(plug: Path, way: str) -> None:
    split, shared = (Local().run(small(way, exchange=exchange), quietly) for exchange in ("split", "shared"))
    for role in ("server", "north", "east"):
        mine, theirs = weights(split, role), weights(shared, role)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_running_statistics_are_those_of_the_training_passes(plug: Path) -> None:
    bottom = weights(Local().run(small("batch norm"), quietly), "north")
    assert int(bottom["1.num_batches_tracked"]) == 12
    assert float(bottom["1.running_mean"].abs().max()) > 0
    kept = weights(Local().run(small("kept statistics"), quietly), "north")
    assert torch.equal(kept["1.running_mean"], torch.full((6,), 0.5))
    assert int(kept["1.num_batches_tracked"]) == 0
    counted = weights(Local().run(small("counter"), quietly), "north")
    assert int(counted["1.passes"]) == 12
    assert "1.start" in counted  # not persistent to torch, and yet the model cannot do without


def test_the_shared_exchange_carries_buffers_both_ways(plug: Path) -> None:
    """The hub's own tap on its link: the last model it sends holds the statistics that the party ends with."""
    from fedsim.testing.recording import VICTIM, record
    from fedsim.vfl.messages import Model

    settings = config.validate({"name": "x", "scenario": small("batch norm").scenario.model_dump()}, "x", {})
    model = settings.scenario.bottom  # type: ignore[attr-defined]
    models = [m for m in record("shared", model, (4,)).messages if isinstance(m, Model)]
    assert VICTIM
    first, *rest = models
    up, down = rest[0::2], rest[1::2]
    assert len(up) == len(down) == 6
    assert int(first.buffers["1.num_batches_tracked"]) == 0
    for step, (theirs, ours) in enumerate(zip(up, down, strict=True)):
        assert not theirs.parameters
        assert int(ours.buffers["1.num_batches_tracked"]) == step + 1
        assert all(torch.equal(theirs.buffers[name], ours.buffers[name]) for name in ours.buffers)
    assert {"0.weight", "1.weight", "1.running_var"} <= down[-1].tensors.keys()


@pytest.mark.parametrize("exchange", ["split", "shared"])
@pytest.mark.parametrize("way", [*BUFFERS, "frozen layer", "function draws"])
def test_a_run_is_taken_up_with_its_buffers(plug: Path, tmp_path: Path, way: str, exchange: str) -> None:
    whole = Local().run(small(way, exchange=exchange), quietly)
    file = keeping(small(way, exchange=exchange), tmp_path / "parts")

    def until(role: str, row: Mapping[str, Any]) -> None:
        if row.get("step") == 7 and "loss" in row:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Local().run(file, until)
    for mine, theirs in zip(Local().run(file, quietly), whole, strict=True):
        _check_equal(mine, theirs, mine.role)


@pytest.mark.parametrize(
    "way", ["batch norm", "spectral norm", "counter", "frozen layer", "function draws", "always draws"]
)
def test_the_same_bits_in_other_processes(plug: Path, way: str) -> None:
    check_runtime(Processes(), small(way, exchange="shared", labels="east"))


@pytest.mark.parametrize("way", [*BUFFERS, "function draws"])
@pytest.mark.parametrize("quiet", [False, True])
def test_frozen_steps_move_nothing(plug: Path, way: str, quiet: bool) -> None:
    model = {"kind": "stateful", "way": way}
    plain = {**SMALL["leakage"]["scenario"], "bottom": model, "top": model, "evaluate": 4}
    found = []
    for steps, window in ((4, None), (8, {"from": 4, "rounds": 4, "quiet": quiet})):
        raw = {"name": "x", "scenario": {**plain, "steps": steps, "window": window}}
        found.append(Local().run(config.validate(raw, "x", {}), quietly))
    for role in ("server", "north", "east"):
        before, after = weights(found[0], role), weights(found[1], role)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_rehearsals_move_no_statistics(plug: Path) -> None:
    """Adversarial weights see each batch twice; the statistics count it once."""
    settings = {**SMALL["weight_faults"]["scenario"], "examination": None, "hardening": {"adversarial": 0.01}}
    settings |= {"bottom": {"kind": "stateful"}, "top": {"kind": "stateful"}}
    reports = Local().run(config.validate({"name": "x", "scenario": settings}, "x", {}), quietly)
    assert int(weights(reports, "north")["1.num_batches_tracked"]) == 12
    assert int(weights(reports, "server")["top.1.num_batches_tracked"]) == 12


def network(way: nn.Module) -> Network:
    return Network(nn.Sequential(nn.Linear(3, 4), way, nn.Linear(4, 2)), Rng.root(5))


def turn(rows: int, **changes: Any) -> Turn:
    return Turn(0, 0, changes.pop("purpose", "train"), torch.arange(rows), **changes)


@pytest.mark.parametrize(
    ("changes", "moves", "training"),
    [
        ({}, True, True),
        ({"phase": 1}, True, True),
        ({"hold": True}, False, True),
        ({"hold": True, "rehearsal": True}, False, True),
        ({"hold": True, "quiet": True}, False, False),
        ({"purpose": "query", "quiet": True}, False, False),
    ],
)
def test_what_each_kind_of_pass_does_to_statistics(changes: dict[str, Any], moves: bool, training: bool) -> None:
    found, rows = network(nn.BatchNorm1d(4)), torch.randn(6, 3, generator=Rng.root(1).torch())
    before = {name: t.clone() for name, t in found.buffers.items()}
    output = found.train(rows, turn(6, **changes))
    assert any(not torch.equal(before[name], t) for name, t in found.buffers.items()) == moves
    alone = found.train(rows[:3], turn(3, **(changes | {"hold": True})))
    assert torch.allclose(output[:3], alone, atol=1e-6) != training  # batch statistics, or running ones
    _, grads = found.pull_back(output, torch.ones_like(output))
    assert grads.keys() == found.parameters.keys()


def test_a_held_pass_between_two_training_passes_breaks_no_graph() -> None:
    found, rows = network(nn.BatchNorm1d(4)), torch.randn(6, 3, generator=Rng.root(2).torch())
    one = found.train(rows, turn(6))
    held = found.train(rows, turn(6, hold=True))
    found.infer(rows)
    two = found.train(rows + 1, turn(6))
    for output in (held, torch.cat([one, two])):
        _, grads = found.pull_back(output, torch.ones_like(output))
        assert all(torch.isfinite(g).all() for g in grads.values())


def test_a_training_batch_of_one_row_leaves_statistics_as_they_are() -> None:
    found, rows = network(nn.BatchNorm1d(4)), torch.randn(9, 3, generator=Rng.root(3).torch())
    found.train(rows, turn(9))
    before = {name: t.clone() for name, t in found.buffers.items()}
    output = found.train(rows[:1], turn(1))
    assert torch.allclose(output, found.infer(rows[:1]), atol=1e-6)
    assert all(torch.equal(before[name], t) for name, t in found.buffers.items())
    found.train(rows, turn(9))
    assert int(found.buffers["1.num_batches_tracked"]) == 2


def test_a_last_batch_of_one_row_is_trained_on(plug: Path) -> None:
    Path("s.yaml").write_text(RUN.format(way="batch norm", exchange="split", labels="server"))
    fine("run", "s.yaml", "--out", "o", "--set", "scenario.batch=41", "--set", "scenario.data.test=18")  # 42 = 41 + 1
    fine("run", "s.yaml", "--out", "p", "--set", "scenario.batch=1")


def test_frozen_and_unused_parameters_stay_as_they_were(plug: Path) -> None:
    for exchange in ("split", "shared"):
        for way, name in (("frozen layer", "0.weight"), ("all frozen", "2.bias"), ("unused", "0.spare")):
            found = [weights(Local().run(small(way, exchange=exchange, steps=n), quietly), "north") for n in (1, 12)]
            assert torch.equal(found[0][name], found[1][name])
            assert torch.equal(found[0]["2.weight"], found[1]["2.weight"]) == (way == "all frozen")


def test_attacks_meet_buffers_and_frozen_layers(plug: Path) -> None:
    def played(way: str, attack: dict[str, Any]) -> SeatReport:
        trial = {"attack": attack, "seat": "server", "victim": "north", "knows": ["rows", "bottom"]}
        raw = {**SMALL["leakage"], "links": [], "trials": [trial], "name": "x"}
        raw["scenario"] = {**raw["scenario"], "bottom": {"kind": "stateful", "way": way}}
        return Local().run(config.validate(raw, "x", {}), quietly)[0]

    for attack in ({"kind": "cafe"}, {"kind": "unmix"}, {"kind": "dlg", "batches": 2, "iterations": 3}):
        for way in ("batch norm", "counter"):
            (finding,) = played(way, attack).findings
            assert finding.verdict.scores["psnr"] > 0
    (finding,) = played("frozen layer", {"kind": "dlg", "batches": 2, "iterations": 3}).findings
    assert "psnr" in finding.verdict.scores
    for attack in ({"kind": "cafe"}, {"kind": "unmix"}):
        with pytest.raises(
            ThreatModelError, match=r"needs the gradients of 0.weight, 0.bias, which the bottom does not"
        ):
            played("frozen layer", attack)
    with pytest.raises(ThreatModelError, match="the bottom trains none of its own"):
        played("all frozen", {"kind": "dlg"})


def test_wrappers_and_appraisals_meet_buffers_and_frozen_layers(plug: Path) -> None:
    for way in ("batch norm", "counter", "spectral norm", "frozen layer", "unused", "always draws"):
        raw = {**SMALL["appraisal"], "name": "x"}
        raw["scenario"] = {**raw["scenario"], "bottom": {"kind": "stateful", "way": way}}
        faults = [{"kind": "bitflip", "count": 2}, {"kind": "quantise", "bits": 6}, {"kind": "weight_pgd"}]
        raw["seats"] = {"north": faults, "east": [{"kind": "weight_pgd", "at": 3}]}
        reports = Local().run(config.validate(raw, "x", {}), quietly)
        assert reports[0].describe["found"]["resilience"]


@pytest.mark.parametrize("name", ["uda_poisoning", "minmax_slice", "best_arm"])
def test_other_scenarios_meet_batch_normalisation(plug: Path, name: str) -> None:
    for way in ("batch norm", "frozen layer", "function draws"):
        raw = {**SMALL[name], "name": "x"}
        raw["scenario"] = {**raw["scenario"], "bottom": {"kind": "stateful", "way": way}}
        raw["scenario"]["top"] = {"kind": "stateful", "way": way}
        reports = Local().run(config.validate(raw, "x", {}), quietly)
        if way == "batch norm":
            found = [n for r in reports for n in r.tensors if n.endswith("running_mean")]
            assert len(found) >= len(reports) - 1


@pytest.mark.parametrize("mode", ["alf", "aff", "trades"])
def test_views_and_attacks_in_training_meet_batch_normalisation(plug: Path, mode: str) -> None:
    """Each update counts its training passes once: two for clean and attacked views, none for the steps of attacks."""
    raw = {**SMALL["contrastive"], "name": "x"}
    model = {"kind": "stateful"}
    raw["scenario"] = {**raw["scenario"], "bottom": model, "top": model}
    raw["scenario"]["finetuning"] = {"mode": mode, "steps": 5, "batch": 20}
    reports = Local().run(config.validate(raw, "x", {}), quietly)
    before = {"alf": 0, "aff": 5, "trades": 10}[mode]
    counted = {each.role: int(weights(reports, each.role).get("1.num_batches_tracked", -1)) for each in reports}
    pretraining = {count - before for count in counted.values() if count >= 0}
    assert len(pretraining) == 1
    assert pretraining.pop() % raw["scenario"]["steps"] == 0
    assert int(weights(reports, "server")["top.1.num_batches_tracked"]) == 5


def test_victims_with_batch_normalisation_are_kept_whole(
    plug: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    raw = {**SMALL["minmax"], "name": "x"}
    training = {"against": {"norm": "linf", "eps": 0.05, "step": 0.02}, "steps": 2, "epochs": 20, "batch": 20}
    victims = {name: {"model": {"kind": "stateful"}, "training": training} for name in raw["scenario"]["victims"]}
    raw["scenario"] = {**raw["scenario"], "victims": victims}
    first, again = (Local().run(config.validate(raw, "x", {}), quietly) for _ in range(2))
    for name in victims:
        one, two = weights(first, name), weights(again, name)
        assert int(one["1.num_batches_tracked"]) == 20 * 10
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_network_without_bounds_is_refused_before_it_is_trained(plug: Path) -> None:
    raw = {**SMALL["weight_faults"], "name": "x"}
    raw["scenario"] = {**raw["scenario"], "bottom": {"kind": "stateful"}, "hardening": {}}
    with pytest.raises(ConfigError, match=r"no bound is known for a layer of kind BatchNorm1d"):
        build(config.validate(raw, "x", {}), "", config.validate(raw, "x", {}))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm1d(4, track_running_stats=False), "layer '1' normalises with the rows at hand even in evaluation"),
        (nn.Softmax(dim=0), "the output of a row depends on the rows beside it"),
        (nn.LazyBatchNorm1d(), "the sizes of 1.weight, 1.bias, 1.running_mean, 1.running_var are not known yet"),
        (nn.Linear(3, 4), "a pass over 3 rows of shape \\(3,\\) fails: RuntimeError: mat1 and mat2"),
        (nn.Unflatten(1, (2, 2)), "a pass over 3 rows|3 rows give"),
    ],
)
def test_models_that_cannot_be_used_are_refused_when_they_are_built(layer: nn.Module, reason: str) -> None:
    class Bad(Linear):
        def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, out))

    with pytest.raises(ConfigError, match=reason):
        build_network(Bad(), (3,), 2, Rng.root(1))


def test_a_model_that_cannot_be_used_is_refused_before_the_run(plug: Path) -> None:
    source = plug.read_text().replace("nn.BatchNorm1d(6)", "nn.BatchNorm1d(6, track_running_stats=False)")
    plug.write_text(source)
    Path("s.yaml").write_text(RUN.format(way="batch norm", exchange="split", labels="server"))
    for words in (("check", "s.yaml"), ("run", "s.yaml", "--out", "o")):
        assert "a prediction depends on the rows beside it" in refused(*words)
    assert not Path("o").exists()


@pytest.mark.parametrize("engine", ["ray", "flower"])
def test_the_same_bits_on_other_engines(plug: Path, engine: str) -> None:
    Path("s.yaml").write_text(RUN.format(way="counter", exchange="shared", labels="server"))
    fine("run", "s.yaml", "--out", "near")
    # in a process of its own: a Ray that this one has started before does not know of the plug-in
    words = ("run", "s.yaml", "--runtime", engine, "--out", "far")
    done = subprocess.run([sys.executable, "-m", "fedsim", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = sorted(Path("near/model").glob("*.safetensors"))
    assert len(found) == 3
    assert [path.read_bytes() for path in found] == [Path("far/model", path.name).read_bytes() for path in found]
