"""What a trained federation is asked for a model card: the same on every runtime, and as somebody who holds it all finds."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from people import FAIR, SCENARIO, make_file, table
from safetensors.torch import load_file, save_file
from small import small

from fedsim import experiment
from fedsim.config import Runtime, ScenarioFile, validate
from fedsim.errors import ConfigError, OutputError, ThreatModelError
from fedsim.experiment import build
from fedsim.figure import Bars, figure, plain
from fedsim.outcome import SeatReport
from fedsim.parties.appraisal import Valued, Worth
from fedsim.parties.appraisal.features import explain, features_of
from fedsim.parties.wrappers.absent import Absent
from fedsim.parties.wrappers.wrong_labels import WrongLabels
from fedsim.plugins import load
from fedsim.resilience import Axis, Row, Table
from fedsim.runtime.local import Local
from fedsim.seeding import Rng
from fedsim.testing import check_runtime, check_wrapper

TITLE = "What each party is worth: "
FEW = {"missing": [0.3], "noisy": [1.0], "shifted": [0.5], "quantise": [3], "bitflip": [40], "draws": 1, "seed": 3}


def run(file: ScenarioFile) -> dict[str, SeatReport]:
    return {report.role: report for report in Local().run(file, lambda role, row: None)}


def drawn(reports: dict[str, SeatReport], title: str) -> dict[str, Any]:
    return next(dict(f) for report in reports.values() for f in report.figures if f["title"] == title)


def bars(reports: dict[str, SeatReport], title: str) -> dict[str, tuple[float, float]]:
    """By name, the value and its standard error."""
    found = drawn(reports, title)
    return dict(zip(found["names"], zip(found["values"], found["errors"], strict=True), strict=True))


def accuracy(reports: dict[str, SeatReport]) -> float:
    hub = next(report for report in reports.values() if report.rows)
    return float(hub.rows[-1]["test"]["accuracy"])


def found_table(reports: dict[str, SeatReport], hub: str = "server") -> Table:
    return Table.of(reports[hub].describe["found"]["resilience"])


# what is tried on it


@pytest.mark.parametrize("labels", ["server", "office"])
def test_each_row_is_what_the_wrapper_does_to_a_run_of_that_seed(labels: str, tmp_path: Path) -> None:
    file = make_file(tmp_path, resilience=FEW, labels=labels)
    found = found_table(run(file), labels)
    assert {row.axis for row in found.rows} == {
        "absent",
        "noisy",
        "missing",
        "shifted",
        "quantised weights",
        "flipped bits",
    }
    assert [tuple(row.seeds) for row in found.rows] == [(3,)] * len(found.rows)
    plain = make_file(tmp_path, labels=labels)
    differ = 0
    for row in found.rows:
        seat = row.seat.removeprefix("top model at ")
        if labels == seat and not row.seat.startswith("top"):
            continue  # a wrapper of a hub that is a party draws for its bottom from another node
        kind, _, given = row.made.partition(" (")
        settings = dict(part.split("=") for part in given.rstrip(")").split(", ")) if given else {}
        made = {"kind": kind, **{k: ["top.*"] if k == "layers" else float(v) for k, v in settings.items()}}
        made |= {k: int(v) for k, v in made.items() if k in ("bits", "count")}
        spoilt = validate({**plain.resolved(), "seats": {seat: [made]}}, "spoilt", {})
        assert accuracy(run(spoilt)) == pytest.approx(row.accuracy, abs=1e-12), row
        differ += row.accuracy != found.accuracy
    assert differ >= 4


def test_nothing_that_is_tried_changes_the_federation(tmp_path: Path) -> None:
    asked = run(make_file(tmp_path, resilience=FEW, worth={}))
    unasked = run(make_file(tmp_path))
    assert {r: [t.tolist() for t in x.tensors.values()] for r, x in asked.items()} == {
        r: [t.tolist() for t in x.tensors.values()] for r, x in unasked.items()
    }
    assert accuracy(asked) == accuracy(unasked)
    assert unasked["server"].figures == []


def test_the_table_has_three_levels_of_missing_values_and_more_harm_hurts_more(tmp_path: Path) -> None:
    found = found_table(run(make_file(tmp_path, resilience={})))
    missing = {row.level: row.accuracy for row in found.rows if row.axis == "missing" and row.seat == "office"}
    assert list(missing) == [0.1, 0.3, 0.5]
    assert found.accuracy > missing[0.1] > missing[0.5] > found.blind
    bits = [row.made for row in found.rows if row.axis == "quantised weights" and row.seat == "town"]
    assert bits == ["quantise (bits=8)", "quantise (bits=4)"]
    dice = [row for row in found.rows if row.seat == "dice" and row.axis == "absent"]
    assert abs(dice[0].accuracy - found.accuracy) < 0.05
    assert found.areas()["absent"] < found.accuracy


def test_the_area_is_that_under_the_curve() -> None:
    def row(level: float, value: float) -> Row:
        return Row("missing", level, "a", "missing", [0], value, value, 0.5)

    axis = Axis("missing", (0.1, 0.3), (0.1, 0.3))
    found = Table(0.9, 0.5, [axis, Axis("noisy", (1.0,), (1.0,))], [row(0.3, 0.6), row(0.1, 0.8)])
    assert found.area(axis, "a") == pytest.approx((0.1 * 0.85 + 0.2 * 0.7) / 0.3)
    assert found.areas() == {"missing": found.area(axis, "a")}
    assert Table.of(found.plain()) == Table.of(copy.deepcopy(found.plain()))


# what parties are worth


def test_values_of_parties_sum_to_the_gain_and_noise_is_worth_nothing(tmp_path: Path) -> None:
    file = make_file(tmp_path, worth={}, resilience=FEW, steps=40, evaluate=40)
    reports = run(file)
    found = found_table(reports)
    worth = bars(reports, TITLE + "accuracy")
    assert list(worth) == ["town", "office", "dice"]
    roles: dict[str, Any] = build(file, "", file)
    for name in worth:
        roles[name].bottom.network.load(reports[name].tensors)
    means = [roles[name].bottom.network.infer(roles[name].bottom.features["train"]).mean(0) for name in worth]
    top = roles["server"].top.network
    top.load({k.removeprefix("top."): t for k, t in reports["server"].tensors.items()})
    nobody = top.infer(torch.cat(means)[None]).softmax(1)[0].double()
    held_out = roles["server"].held_out
    gain = found.accuracy - float((held_out == nobody.argmax()).double().mean())
    assert sum(value for value, _ in worth.values()) == pytest.approx(gain, abs=1e-9)
    loss = bars(reports, TITLE + "log loss (nats)")
    blind = -float(nobody.log()[held_out].mean())
    everybody = reports["server"].rows[-1]["test"]["log_loss"]
    assert sum(value for value, _ in loss.values()) == pytest.approx(blind - everybody, abs=1e-6)  # float32 in between
    for value, error in (worth["dice"], loss["dice"]):
        assert abs(value) < 3 * error
    assert worth["office"][0] > 5 * worth["office"][1]
    assert worth["office"][0] > worth["town"][0] > worth["dice"][0]


def test_sampled_orders_agree_with_all_coalitions(tmp_path: Path) -> None:
    exact = bars(run(make_file(tmp_path, worth={})), TITLE + "log loss (nats)")
    sampled = bars(run(make_file(tmp_path, worth={"exact": 1, "orders": 40})), TITLE + "log loss (nats)")
    assert sum(v for v, _ in sampled.values()) == pytest.approx(sum(v for v, _ in exact.values()), abs=1e-9)
    for name, (value, error) in sampled.items():
        assert abs(value - exact[name][0]) < 3 * error
        assert error > exact[name][1] * 0.9


def test_a_party_and_its_double_share_their_worth_equally(tmp_path: Path) -> None:
    twice = table().assign(hours2=table().hours, grade2=table().grade)
    twice.to_csv(tmp_path / "people.csv", index=False)
    parties = {**SCENARIO["parties"], "double": {"columns": "hours2, grade2"}}
    file = make_file(tmp_path, parties=parties)
    folder = experiment.run(file, tmp_path / "run", pages=False)
    model = folder / "model"
    office, top = load_file(model / "office.safetensors"), load_file(model / "server.safetensors")
    save_file(office, model / "double.safetensors")
    top["top.0.weight"][:, 12:16] = top["top.0.weight"][:, 4:8].clone()
    save_file(top, model / "server.safetensors")
    worth = bars(run(make_file(tmp_path, parties=parties, worth={}, trained={"run": str(folder)})), TITLE + "accuracy")
    assert worth["office"][0] == pytest.approx(worth["double"][0], abs=1e-9)
    assert worth["office"][0] > 0.05


# what features are worth inside a party


def test_features_are_explained_at_the_party_with_its_consent_only(tmp_path: Path) -> None:
    pytest.importorskip("captum", reason="needs fedsim-vfl[card]")
    asked = {"worth": {"rows": 120, "steps": 8, "repeats": 3}}
    consenting = {name: {**party, "disclose": name == "town"} for name, party in SCENARIO["parties"].items()}
    reports = run(make_file(tmp_path, parties=consenting, **asked))
    titles = [figure["title"] for report in reports.values() for figure in report.figures]
    assert [title for title in titles if "Features" in title] == [
        "Features of town: integrated gradients",
        "Features of town: permutation",
    ]
    assert [f["title"] for f in reports["server"].figures] == [TITLE + "accuracy", TITLE + "log loss (nats)"]
    assert ("server", "Varied") in reports["town"].traffic.frames
    assert ("server", "Varied") not in reports["office"].traffic.frames
    for kind in ("integrated gradients", "permutation"):
        found = bars(reports, f"Features of town: {kind}")
        assert list(found) == ["age", "sex", "region"]
        assert found["sex"][0] > 2 * found["region"][0]
        assert found["sex"][0] > 3 * found["sex"][1]


def test_a_hub_that_is_a_party_explains_itself_without_messages(tmp_path: Path) -> None:
    pytest.importorskip("captum", reason="needs fedsim-vfl[card]")
    parties = {name: {**party, "disclose": name == "office"} for name, party in SCENARIO["parties"].items()}
    asked = {"rows": 100, "steps": 6, "repeats": 3}
    apart = bars(run(make_file(tmp_path, parties=parties, worth=asked)), "Features of office: permutation")
    reports = run(make_file(tmp_path, parties=parties, worth=asked, labels="office"))
    together = bars(reports, "Features of office: permutation")
    assert together["grade"][0] > together["hours"][0] > 0
    assert apart["grade"][0] > apart["hours"][0] > 0
    assert not [key for report in reports.values() for key in report.traffic.frames if key[1] in ("Varied", "Valued")]


def test_integrated_gradients_are_complete_and_exact_where_all_is_linear(tmp_path: Path) -> None:
    pytest.importorskip("captum", reason="needs fedsim-vfl[card]")
    file = make_file(tmp_path, bottom={"kind": "linear"})
    party: Any = build(file, "", file)["town"]
    w = torch.randn(4, generator=Rng.root(1).torch())

    def ask(z: torch.Tensor, goal: str) -> Valued:
        values, g = z @ w, w.expand_as(z).clone()
        return Valued(0, values if goal == "value" else values.square().mean(dim=1), g)

    found = explain(party, Worth(rows=50, steps=5, repeats=2), Rng.root(2), ask)
    names, mask = features_of(party)
    rows, train = party.bottom.features["evaluate"][:50], party.bottom.features["train"]
    slope = w @ party.bottom.network.parameters["0.weight"].detach()
    moved = slope * (rows - train.mean(0))
    expected = [float(moved[:, mask[0] == i].sum(1).abs().mean()) for i in range(len(names))]
    assert found.attributed.tolist() == pytest.approx(expected, rel=1e-4)


def test_patches_of_images_are_features_too() -> None:
    pytest.importorskip("captum", reason="needs fedsim-vfl[card]")
    images = {"kind": "sklearn", "name": "digits", "rows": 150, "test": 40}
    parties = {"upper": {"columns": "0:4, 0:8", "disclose": True}, "lower": {"columns": "4:8, 0:8"}}
    scenario = {"data": images, "parties": parties, "worth": {"steps": 3, "repeats": 2, "rows": 20}}
    reports = run(small("baseline", scenario={"kind": "baseline", "batch": 20, "steps": 20, **scenario}))
    found = bars(reports, "Features of upper: integrated gradients")
    assert next(iter(found)) == "rows from 0, columns from 0"
    assert len(found) == 2 * 4
    assert sum(value for value, _ in found.values()) > 0


# the same wherever it is asked


def whole(folder: Path, **more: Any) -> ScenarioFile:
    parties = {name: {**party, "disclose": name == "town"} for name, party in SCENARIO["parties"].items()}
    worth = {"rows": 40, "steps": 4, "repeats": 2}
    return make_file(folder, parties=parties, fairness=FAIR, worth=worth, resilience=FEW, **more)


@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_the_same_figures_on_every_runtime(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    for library in ("captum", "fairlearn", *(["ray"] if kind == "ray" else [])):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}")
    if kind == "ray":
        request.getfixturevalue("ray_session")
    file = whole(tmp_path)
    assert len([f for report in run(file).values() for f in report.figures]) == 2 + 3 + 2 + 2
    check_runtime(load("runtimes", Runtime, {"kind": kind}), file)


@pytest.mark.parametrize("labels", ["server", "office"])
def test_a_run_that_is_taken_up_says_the_same_of_itself(labels: str, tmp_path: Path) -> None:
    asked = {"worth": {}, "resilience": FEW, "labels": labels}
    first = make_file(tmp_path, **asked)
    folder = experiment.run(first, tmp_path / "run", pages=False)
    one, other = run(first), run(make_file(tmp_path, **asked, trained={"run": str(folder)}))
    for role, report in one.items():
        assert json.dumps(report.figures) == json.dumps(other[role].figures)  # in Python NaN is not NaN
        assert [t.tolist() for t in report.tensors.values()] == [t.tolist() for t in other[role].tensors.values()]
    assert [row for row in other[labels].rows if "loss" in row] == []
    assert other[labels].rows[-1]["test"] == one[labels].rows[-1]["test"]


def test_what_cannot_be_taken_up_is_refused(tmp_path: Path) -> None:
    folder = experiment.run(make_file(tmp_path), tmp_path / "run", pages=False)

    def why(**more: Any) -> str:
        with pytest.raises((ConfigError, OutputError)) as found:
            experiment.rehearse(make_file(tmp_path, **more))
        return str(found.value)

    assert "no such folder" in why(trained={"run": str(tmp_path / "nix")})
    assert "holds nothing of seat 'server' in arm 'b'" in why(trained={"run": str(folder), "arm": "b"})
    assert "was trained on other data, or with another model" in why(
        trained={"run": str(folder)}, bottom={"kind": "linear"}
    )
    fewer = {**SCENARIO["data"], "path": str(tmp_path / "people.csv"), "test": 100}
    assert "was trained on other data, or with another model" in why(trained={"run": str(folder)}, data=fewer)


# the wrappers


def test_an_absent_party_sends_the_mean_of_its_training_rows() -> None:
    check_wrapper(Absent())
    plain, spoilt = small("baseline"), small("baseline", seats={"north": [{"kind": "absent"}]})
    one, other = run(plain), run(spoilt)
    assert [row["loss"] for row in one["east"].rows if "loss" in row] == [
        row["loss"] for row in other["east"].rows if "loss" in row
    ]
    assert one["east"].rows[-1]["test"] != other["east"].rows[-1]["test"]
    noisy = small("baseline", seats={"north": [{"kind": "absent"}, {"kind": "noisy", "sigma": 9.0}]})
    assert run(noisy)["east"].rows[-1]["test"] == other["east"].rows[-1]["test"]  # nothing of the row is in it


def test_wrong_labels_are_as_many_as_asked_and_never_the_true_ones() -> None:
    check_wrapper(WrongLabels())
    labels = torch.arange(300) % 3
    wrong, count = WrongLabels(rate=0.2).corrupt(labels, 3, Rng.root(1))
    assert (count, int((wrong != labels).sum())) == (60, 60)
    assert set(wrong.tolist()) == {0, 1, 2}
    again, _ = WrongLabels(rate=0.2).corrupt(labels, 3, Rng.root(1))
    assert torch.equal(wrong, again)
    partly = torch.where(torch.arange(300) < 100, labels, -1)
    wrong, count = WrongLabels(rate=0.2).corrupt(partly, 3, Rng.root(1))
    assert count == 20
    assert torch.equal(wrong[100:], partly[100:])
    with pytest.raises(ThreatModelError, match="wrong_labels: expected the label holder, east; found north"):
        run(small("baseline", seats={"north": [{"kind": "wrong_labels"}]}))


def test_bars_travel_as_plain_values() -> None:
    found = Bars("worth", ["a", "b"], [0.5, -0.1], [0.1, 0.2], "gain", "note")
    assert figure(plain(found)) == found
