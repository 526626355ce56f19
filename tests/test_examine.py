"""An examination by messages finds what somebody who holds every weight and every row would find."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsim.bits import masks, store
from fedsim.config import ScenarioFile, validate
from fedsim.errors import ConfigError, ProtocolError
from fedsim.experiment import build
from fedsim.outcome import SeatReport
from fedsim.parties.examine.hub import TOP, Oracle
from fedsim.runtime.local import Local
from fedsim.seeding import Rng
from fedsim.vfl.bounds import holds, margins, spread
from fedsim.vfl.network import Network

EXAMINATION = {"radii": [0.005, 0.02, 0.1], "eps": 0.1, "steps": 25, "searches": 8, "draws": 4, "flips": [1, 4]}
SCENARIO: dict[str, Any] = {
    "kind": "weight_faults",
    "data": {"kind": "synthetic", "count": 260, "features": 8, "informative": 8, "test": 60},
    "parties": {"a": {"columns": "0:5"}, "b": {"columns": "5:8", "embedding": 3}},
    "bottom": {"kind": "mlp", "hidden": [6]},
    "embedding": 4,
    "top": {"kind": "linear"},
    "optimiser": {"kind": "adam", "lr": 0.02},
    "batch": 20,
    "steps": 60,
    "examination": EXAMINATION,
}


def make_file(seats: dict[str, Any] | None = None, **more: Any) -> ScenarioFile:
    return validate({"seed": 3, "scenario": {**SCENARIO, **more}, "seats": seats or {}}, "test", {})


def run(file: ScenarioFile) -> dict[str, SeatReport]:
    return {report.role: report for report in Local().run(file, lambda role, row: None)}


@pytest.fixture(scope="module")
def plain() -> dict[str, SeatReport]:
    return run(make_file())


class Whole:
    """The trained federation in the hands of one: networks, rows and labels."""

    def __init__(self, file: ScenarioFile, reports: dict[str, SeatReport]) -> None:
        roles: dict[str, Any] = build(file, "test", file)
        self.modules: dict[str, nn.Module] = {}
        for name, role in roles.items():
            network: Network = role.top.network if name == "server" else role.bottom.network
            network.load({key.removeprefix("top."): tensor for key, tensor in reports[name].tensors.items()})
            self.modules[name] = network.module.double().requires_grad_(False)
        parties = [name for name in roles if name != "server"]
        self.rows = {name: roles[name].bottom.features["evaluate"].double() for name in parties}
        self.train = {name: roles[name].bottom.features["train"].double() for name in parties}
        self.labels, self.train_labels = roles["server"].held_out, roles["server"].top.labels

    def logits(self, rows: dict[str, Tensor] | None = None) -> Tensor:
        z = torch.cat([self.modules[name](x) for name, x in (rows or self.rows).items()], 1)
        return self.modules["server"](z)  # type: ignore[no-any-return]

    def accuracy(self) -> float:
        return float((self.logits().argmax(1) == self.labels).double().mean())

    def certified(self, who: str, eps: float) -> float:
        """The share of rows that are right and stay so while ``who`` moves its weights by ``eps``."""
        moving = {name: eps if who in (name, "all seats") else 0.0 for name in self.rows}
        pairs = [spread(self.modules[name], x, moving[name]) for name, x in self.rows.items()]
        z, e = (torch.cat([pair[i] for pair in pairs], 1) for i in (0, 1))
        guess = self.logits().argmax(1)
        top = eps if who in (TOP, "all seats") else 0.0
        keeps = holds(*margins(self.modules["server"], z, guess, top, e), guess)
        return float((keeps & (guess == self.labels)).double().mean())


def figures(reports: dict[str, SeatReport], hub: str = "server") -> dict[str, Any]:
    return {figure["title"]: figure for figure in reports[hub].figures}


def line(figure: dict[str, Any], name: str) -> dict[str, Any]:
    return next(line for line in figure["lines"] if line["name"] == name)


def scores(reports: dict[str, SeatReport], hub: str = "server") -> dict[str, float]:
    return dict(reports[hub].rows[-1]["test"])


TITLES = {
    "a": "Accuracy against eps: a alone",
    "b": "Accuracy against eps: b alone",
    TOP: "Accuracy against eps: the top model alone",
    "all seats": "Accuracy against eps: all seats",
}


@pytest.mark.parametrize("who", TITLES)
def test_certified_accuracy_is_that_of_the_joint_network(who: str, plain: dict[str, SeatReport]) -> None:
    whole, found = Whole(make_file(), plain), line(figures(plain)[TITLES[who]], "certified")
    expected = [whole.certified(who, eps) for eps in found["x"]]
    assert found["y"] == pytest.approx(expected, abs=1.01 / 60)  # a radius on a point of the curve may fall either side
    assert sum(a == b for a, b in zip(found["y"], expected, strict=True)) >= 55
    assert found["y"][0] > 0.5
    assert found["y"][-1] < found["y"][0]


@pytest.mark.parametrize("who", TITLES)
def test_certified_curves_lie_under_those_of_attacks(who: str, plain: dict[str, SeatReport]) -> None:
    figure = figures(plain)[TITLES[who]]
    certified, norms = (line(figure, name)["y"] for name in ("certified", "certified, by norms"))
    assert all(a >= b for a, b in zip(certified, norms, strict=True))
    attacked = line(figure, "attacked")
    for eps, accuracy in zip(attacked["x"], attacked["y"], strict=True):
        under = [y for x, y in zip(line(figure, "certified")["x"], certified, strict=True) if x >= eps]
        assert accuracy >= max(under, default=0.0)
    if who != "all seats":
        each = line(figure, "attacked, a change for each row")["y"]
        assert all(a >= b for a, b in zip(each, certified, strict=True))
        assert each[-1] < each[0]
    assert scores(plain)["bounds_broken"] == 0


def test_the_attack_finds_the_radius_where_the_bound_is_exact(plain: dict[str, SeatReport]) -> None:
    figure = figures(plain)[TITLES[TOP]]  # one linear layer
    eps, certified = (line(figure, "certified")[axis] for axis in "xy")
    found = line(figure, "attacked, a change for each row")["y"]
    for x, proved in zip(eps, certified, strict=True):
        beyond = [y for radius, y in zip(eps, found, strict=True) if radius > 1.15 * x]
        assert max(beyond, default=0.0) <= proved
    assert certified[-1] < certified[0] - 0.01
    table = figures(plain)["Certificates"]
    row = dict(zip(table["columns"], table["values"][table["rows"].index(TOP)], strict=True))
    assert row["no row flips up to"] <= row["flip found at"] <= 1.15 * row["no row flips up to"]


def test_attacked_accuracy_is_reached_by_weights_within_the_radius(plain: dict[str, SeatReport]) -> None:
    numbers = scores(plain)
    assert numbers["pgd_accuracy"] == line(figures(plain)[TITLES["all seats"]], "attacked")["y"][2]
    assert numbers["pgd_accuracy"] < numbers["accuracy"]
    whole = Whole(make_file(), plain)
    for name, module in whole.modules.items():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=Rng.root(1).child(name).torch()).sign()
    assert whole.accuracy() > numbers["pgd_accuracy"] + 0.05  # chance corners of the ball do not get there


def test_the_gap_is_that_of_all_training_and_all_held_out_rows(plain: dict[str, SeatReport]) -> None:
    whole = Whole(make_file(), plain)
    trained = float((whole.logits(whole.train).argmax(1) == whole.train_labels).double().mean())
    assert scores(plain)["accuracy"] == whole.accuracy()
    assert scores(plain)["generalisation_gap"] == pytest.approx(trained - whole.accuracy(), abs=1e-12)


def test_the_worst_bit_is_real(plain: dict[str, SeatReport]) -> None:
    table = figures(plain)["The worst single bits found"]
    assert min(row[3] for row in table["values"]) == scores(plain)["one_bit_accuracy"]
    for name, (bit, before, after, accuracy) in zip(table["rows"], table["values"], strict=True):
        who, _, place = name.partition(": ")
        parameter, _, at = place.removesuffix("]").partition("[")
        whole = Whole(make_file(), plain)
        for each in whole.modules.values():
            each.float()
        whole.rows = {party: rows.float() for party, rows in whole.rows.items()}
        tensor = dict(whole.modules["server" if who == TOP else who].named_parameters())[parameter]
        stored = store(tensor, "float32")
        where = tuple(int(i) for i in at.split(", "))
        flat = torch.arange(tensor.numel()).view(tensor.shape)[where]
        mask = masks(flat[None], torch.tensor([int(bit)]), tensor.numel()).view(tensor.shape)
        assert float(tensor[where]) == before
        tensor.copy_(stored.flip(mask).value())
        assert float(tensor[where]) == after
        logits = whole.logits()
        right = torch.isfinite(logits).all(1) & (logits.argmax(1) == whole.labels)
        assert float(right.double().mean()) == accuracy


def test_heat_maps_and_sweeps_cover_every_layer_bit_and_part(plain: dict[str, SeatReport]) -> None:
    found = figures(plain)
    heat = found["One flipped bit: a"]
    assert heat["rows"] == tuple(plain["a"].tensors)
    assert [len(row) for row in heat["values"]] == [32] * 4
    values = torch.tensor(heat["values"])
    assert values[:, :8].min() > values[:, 30].min()  # low mantissa bits, top exponent bit
    sweep = found["Accuracy against flipped bits: b"]
    assert [line["name"].partition(",")[0] for line in sweep["lines"]][::2] == ["exponent", "mantissa", "sign"]
    assert line(sweep, "mantissa, mean")["x"] == (1, 4)


def test_a_hub_that_is_a_party_examines_its_own_bottom_without_messages() -> None:
    reports = run(make_file(labels="b"))
    assert {figure for figure in figures(reports, "b") if figure.startswith("One flipped bit")} == {
        f"One flipped bit: {who}" for who in ("a", "b", TOP)
    }
    assert scores(reports, "b")["bounds_broken"] == 0
    assert ("b", "Tried") in reports["a"].traffic.frames
    assert scores(reports, "b")["pgd_accuracy"] < scores(reports, "b")["accuracy"]


def test_convolutions_are_examined_too() -> None:
    images = {"kind": "sklearn", "name": "digits", "rows": 150, "test": 40}
    parties = {"top": {"columns": "0:4, 0:8"}, "low": {"columns": "4:8, 0:8"}}
    short = {"radii": [0.01], "eps": 0.01, "steps": 3, "searches": 3, "draws": 2, "flips": [2], "format": "bfloat16"}
    cnn = {"kind": "cnn", "channels": [3]}
    reports = run(make_file(data=images, parties=parties, bottom=cnn, examination=short, hardening={"robust": 0.01}))
    assert scores(reports)["bounds_broken"] == 0
    assert len(figures(reports)["One flipped bit: low"]["values"][0]) == 16
    assert line(figures(reports)["Accuracy against eps: top alone"], "certified")["y"][0] > 0


def test_what_is_examined_is_what_is_in_use() -> None:
    short = {**EXAMINATION, "radii": [0.02], "eps": 0.02, "steps": 1, "searches": 1}
    healthy, struck = (
        run(make_file(seats, examination=short))
        for seats in ({}, {"a": [{"kind": "gaussian", "sigma": 2.0}, {"kind": "shifted"}]})
    )
    assert struck["a"].rows == healthy["a"].rows
    for reports in (healthy, struck):
        attacked = line(figures(reports)["Accuracy against eps: b alone"], "attacked, a change for each row")
        assert attacked["y"][0] == pytest.approx(scores(reports)["accuracy"], abs=0.05)
    assert scores(struck)["accuracy"] < scores(healthy)["accuracy"]


def test_a_hub_refuses_what_it_was_not_asked_for() -> None:
    network = Network(nn.Sequential(nn.Linear(4, 2)), Rng.root(1))
    oracle = Oracle(network, {"a": torch.zeros(3, 4)}, torch.tensor([0, 1, 0]))
    with pytest.raises(ProtocolError, match=r"a tries outputs of shape \(1, 3, 5\), expected"):
        oracle.answer("a", torch.zeros(1, 3, 5), "loss")
    answer = oracle.answer("a", torch.full((2, 3, 4), torch.nan), "none")
    assert answer.accuracy.tolist() == [0.0, 0.0]
    assert answer.changed.all()


def test_eps_must_be_one_of_the_radii() -> None:
    with pytest.raises(ConfigError, match=r"eps: 0\.3 is none of the radii 0\.005, 0\.02, 0\.1"):
        make_file(examination={**EXAMINATION, "eps": 0.3})
