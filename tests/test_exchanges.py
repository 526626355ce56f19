"""Training among parties is the training of one network, to the bit: with every optimiser, in both exchanges."""

from __future__ import annotations

import asyncio
import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import fedsim.scenarios.defences
from fedsim.config import ScenarioFile, validate
from fedsim.message import RoleId
from fedsim.outcome import SeatReport
from fedsim.plan import Secrets
from fedsim.play import play
from fedsim.runtime.local import memory, play_all
from fedsim.seeding import Rng, SeatRoot, determine, simulate_root, simulated_secret
from fedsim.state import digest
from fedsim.transport.base import Transport
from fedsim.transport.wrappers import Record
from fedsim.vfl.messages import Model
from fedsim.wire import decode

PARTIES = {name: {"columns": f"{3 * i}:{3 * i + 3}"} for i, name in enumerate(("north", "east", "south", "west"))}
ADAM = {"kind": "adam", "lr": 0.01}
NEGATE = '''
from fedsim.channel import Stage
from fedsim.message import with_tensors
from fedsim.threat import Defence


class Negate(Defence):
    """Every number with the other sign."""

    def stage(self):
        return Stage(lambda rng: None, lambda message, state: (with_tensors(message, lambda name, t: -t), state))
'''

Optimise = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def make_file(links: list[dict[str, Any]] | None = None, seed: int = 3, **settings: Any) -> ScenarioFile:
    data = {"kind": "synthetic", "count": 150, "features": 12, "informative": 8, "classes": 3}
    scenario = {
        "kind": "leakage",
        "data": data,
        "parties": PARTIES,
        "bottom": {"kind": "mlp", "hidden": [10]},
        "embedding": 5,
        "top": {"kind": "mlp", "hidden": [8]},
        "optimiser": ADAM,
        "batch": 32,
        "steps": 100,
        **settings,
    }
    return validate({"name": "test", "seed": seed, "scenario": scenario, "links": links or []}, "test", {})


def run(file: ScenarioFile) -> dict[RoleId, SeatReport]:
    return {report.role: report for report in asyncio.run(play_all(file, memory(file.plan())))}


class LentRoot(Secrets):
    """The simulated root of another seat."""

    def root(self, file_digest: str, seed: int, role: RoleId, fresh: bytes | None = None) -> SeatRoot:
        return simulate_root(seed, (self.ids or b"").decode())


def run_with_roots(file: ScenarioFile, lenders: Mapping[RoleId, RoleId]) -> dict[RoleId, SeatReport]:
    """A simulation in which a seat may draw what another would."""
    transports = memory(file.plan())

    async def everyone() -> list[SeatReport]:
        lent = {role: LentRoot(ids=lenders.get(role, role).encode()) for role in transports}
        return await asyncio.gather(*(play(file, role, t, secrets=lent[role]) for role, t in transports.items()))

    return {report.role: report for report in asyncio.run(everyone())}


def losses(report: SeatReport) -> list[float]:
    return [row["loss"] for row in report.rows if "loss" in row]


class Joint(nn.Module):
    """The whole network in one place, with the initial weights of the seats."""

    def __init__(self, file: ScenarioFile) -> None:
        super().__init__()
        plan, public = file.plan(), Rng.root(file.seed)
        roles: dict[RoleId, Any] = {
            role: seat.build(public, Rng.secret(simulated_secret(file.seed, role))) for role, seat in plan.seats.items()
        }
        hub = roles.pop(plan.hub)
        self.bottoms = nn.ModuleDict({n: copy.deepcopy(r.bottom.network.module) for n, r in roles.items()})
        self.top = copy.deepcopy(hub.top.network.module)
        self.features = {name: role.bottom.features["train"] for name, role in roles.items()}
        self.labels, self.schedule = hub.top.labels, hub.schedule

    def loss(self, rows: Tensor) -> Tensor:
        z = [bottom(self.features[name][rows]) for name, bottom in self.bottoms.items()]
        return functional.cross_entropy(self.top(torch.cat(z, dim=1)), self.labels[rows])

    def train_on_schedule(self, optimise: Optimise, skip: range = range(0)) -> list[float]:
        determine(1)
        optimiser, found = optimise(list(self.parameters())), []
        for turn in self.schedule.turns():
            if turn.purpose != "train" or turn.index in skip:
                continue
            optimiser.zero_grad()
            loss = self.loss(turn.rows)
            torch.autograd.backward(loss)
            optimiser.step()
            found.append(loss.item())
        return found

    def weights(self) -> dict[RoleId, dict[str, Tensor]]:
        parts = {name: dict(bottom.named_parameters()) for name, bottom in self.bottoms.items()}
        return parts | {"server": {f"top.{name}": p for name, p in self.top.named_parameters()}}


def assert_same_weights(reports: Mapping[RoleId, SeatReport], joint: Joint) -> None:
    expected = {role: digest(weights) for role, weights in joint.weights().items()}
    assert {role: digest(report.tensors) for role, report in reports.items()} == expected


def fused_adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01, fused=True)


@pytest.mark.parametrize("exchange", ["split", "shared"])
@pytest.mark.parametrize(
    ("settings", "optimise"),
    [
        (ADAM, fused_adam),
        (ADAM | {"weight_decay": 0.1}, lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True)),
        ({"kind": "sgd", "lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1)),
        ({"kind": "momentum", "lr": 0.05}, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        (
            {"kind": "momentum", "lr": 0.05, "momentum": 0.5, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.5, weight_decay=0.01),
        ),
    ],
    ids=["adam", "adam with decay", "sgd", "momentum", "momentum with decay"],
)
def test_federated_training_equals_joint_training_to_the_bit(
    exchange: str, settings: dict[str, Any], optimise: Optimise
) -> None:
    file = make_file(exchange=exchange, optimiser=settings)
    joint = Joint(file)
    untrained = {role: digest(weights) for role, weights in joint.weights().items()}
    found = joint.train_on_schedule(optimise)
    reports = run(file)
    assert len(reports) == 5
    assert len(found) == 100
    assert losses(reports["server"]) == found
    assert all(digest(reports[role].tensors) != before for role, before in untrained.items())
    assert_same_weights(reports, joint)


@pytest.mark.parametrize("exchange", ["split", "shared"])
def test_labels_at_a_party_give_what_labels_at_the_server_give(exchange: str) -> None:
    at_party, at_server = make_file(exchange=exchange, labels="east"), make_file(exchange=exchange)
    federated = run_with_roots(at_party, {})
    # the top is drawn from the root of the hub's seat: lend the server that of the party that was the hub
    central = run_with_roots(at_server, {"server": "east"})
    assert "server" not in federated
    expected = {f"bottom.{name}": p for name, p in central["east"].tensors.items()} | dict(central["server"].tensors)
    assert digest(federated["east"].tensors) == digest(expected)
    for other in ("north", "south", "west"):
        assert digest(federated[other].tensors) == digest(central[other].tensors)
    assert federated["east"].rows == central["server"].rows


@pytest.fixture
def negate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A defence that only these tests know, found like any other: by the name of its file."""
    (tmp_path / "negate.py").write_text(NEGATE)
    monkeypatch.setattr(fedsim.scenarios.defences, "__path__", [*fedsim.scenarios.defences.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield "negate"
    sys.modules.pop("fedsim.scenarios.defences.negate", None)


def test_in_shared_a_party_learns_from_what_the_hub_received(negate: str) -> None:
    link = {"from": "south", "message": "ParameterGradient", "sender": [{"kind": negate}]}
    file = make_file([link], exchange="shared", steps=1)
    joint = Joint(file)
    determine(1)
    torch.autograd.backward(joint.loss(next(joint.schedule.turns()).rows))
    honest = copy.deepcopy(joint)
    for copied, original in zip(honest.parameters(), joint.parameters(), strict=True):
        copied.grad = None if original.grad is None else original.grad.clone()
    for parameter in joint.bottoms["south"].parameters():
        assert parameter.grad is not None
        parameter.grad.neg_()
    for network in (joint, honest):
        fused_adam(list(network.parameters())).step()
    reports = run(file)
    assert_same_weights(reports, joint)
    assert digest(reports["south"].tensors) != digest(honest.weights()["south"])


def models_sent(file: ScenarioFile) -> tuple[dict[RoleId, SeatReport], dict[RoleId, list[str]]]:
    """What a run leaves, and the digests of the models that the hub sent to each party."""
    inner = memory(file.plan())
    recorded: dict[RoleId, Transport] = {**inner, "server": (record := Record(inner["server"]))}
    reports = {report.role: report for report in asyncio.run(play_all(file, recorded))}
    models: dict[RoleId, list[str]] = {party: [] for party in PARTIES}
    for party, frame in record.sent:
        if isinstance(message := decode(frame).message, Model):
            models[party].append(digest(message.parameters))
    return reports, models


def test_in_a_window_nothing_moves_and_no_optimiser_advances() -> None:
    file = make_file(exchange="shared", steps=12, window={"from": 4, "rounds": 5})
    reports, models = models_sent(file)
    for sent in models.values():
        assert len(sent) == 12
        assert len(set(sent[3:9])) == 1
        assert len(set(sent)) == 7
    joint = Joint(file)
    joint.train_on_schedule(
        fused_adam, skip=range(4, 9)
    )  # as if the held rounds had not been, for the top and for Adam
    assert_same_weights(reports, joint)


def test_in_a_window_the_bottom_of_a_hub_that_is_a_party_does_not_move_either() -> None:
    held = run(make_file(exchange="shared", labels="east", steps=6, window={"from": 0, "rounds": 6}))
    file = make_file(exchange="shared", labels="east", steps=6)
    fresh: Any = file.plan().seats["east"].build(Rng.root(3), Rng.secret(simulated_secret(3, "east")))
    assert digest(held["east"].tensors) == digest(fresh.tensors())
    assert digest(run(file)["east"].tensors) != digest(held["east"].tensors)


@pytest.mark.parametrize("exchange", ["split", "shared"])
def test_dropout_reproduces_and_matters(exchange: str) -> None:
    dropout = {"kind": "mlp", "hidden": [10], "dropout": 0.3}
    file = make_file(exchange=exchange, steps=20, bottom=dropout, top={"kind": "mlp", "hidden": [8], "dropout": 0.3})
    one, two, without = run(file), run(file), run(make_file(exchange=exchange, steps=20))
    for role, report in one.items():
        assert digest(report.tensors) == digest(two[role].tensors)
        assert digest(report.tensors) != digest(without[role].tensors)
    assert one["server"].rows == two["server"].rows


def test_in_a_window_there_is_no_dropout_unless_the_parties_are_not_quiet() -> None:
    dropout = {"kind": "mlp", "hidden": [10], "dropout": 0.3}
    settings: dict[str, Any] = {"exchange": "shared", "steps": 5, "window": {"from": 0, "rounds": 5}}
    plain = losses(run(make_file(**settings))["server"])
    assert losses(run(make_file(bottom=dropout, **settings))["server"]) == plain
    settings["window"] |= {"quiet": False}
    assert losses(run(make_file(bottom=dropout, **settings))["server"]) != plain
    assert losses(run(make_file(**settings))["server"]) == plain
