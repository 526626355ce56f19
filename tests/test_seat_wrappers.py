"""Faults around a seat: what is struck, when, and that nothing else is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsim.config import ScenarioFile, validate
from fedsim.errors import ConfigError, DivergedError, ThreatModelError
from fedsim.outcome import SeatReport
from fedsim.runtime.local import Local

SCENARIO = {
    "kind": "leakage",
    "data": {"kind": "synthetic", "count": 200, "features": 6, "informative": 6, "test": 60},
    "parties": {"a": {"columns": "0:3"}, "b": {"columns": "3:6"}},
    "bottom": {"kind": "mlp", "hidden": [8]},
    "embedding": 4,
    "optimiser": {"kind": "sgd", "lr": 0.1},
    "batch": 20,
    "steps": 20,
    "evaluate": 20,
}
FAULTS: dict[str, dict[str, Any]] = {
    "bitflip": {"count": 5, "part": "sign"},
    "stuck": {"count": 30, "part": "mantissa"},
    "gaussian": {},
    "quantise": {"bits": 3},
    "weight_pgd": {"eps": 0.3},
}
INPUTS = ("noisy", "missing", "shifted")


def make_file(
    seats: Mapping[str, Any] | None = None, file: Mapping[str, Any] | None = None, **more: Any
) -> ScenarioFile:
    return validate({"seed": 5, "scenario": {**SCENARIO, **more}, "seats": seats or {}, **(file or {})}, "test", {})


def run(seats: Mapping[str, Any] | None = None, **more: Any) -> dict[str, SeatReport]:
    return {report.role: report for report in Local().run(make_file(seats, **more), lambda role, row: None)}


def hub_rows(reports: Mapping[str, SeatReport], key: str) -> list[Any]:
    hub = next(report for report in reports.values() if report.rows)
    return [row[key] for row in hub.rows if key in row]


def distance(one: SeatReport, other: SeatReport) -> dict[str, float]:
    return {name: float((t - other.tensors[name]).detach().abs().max()) for name, t in one.tensors.items()}


@pytest.fixture(scope="module")
def healthy() -> dict[str, SeatReport]:
    return run()


@pytest.mark.parametrize("exchange", ["split", "shared"])
@pytest.mark.parametrize("kind", FAULTS)
def test_at_inference_training_is_untouched_and_the_score_is_not(kind: str, exchange: str) -> None:
    plain = run(exchange=exchange)
    struck = run({"a": [{"kind": kind, **FAULTS[kind]}]}, exchange=exchange)
    assert hub_rows(struck, "loss") == hub_rows(plain, "loss")
    assert all(torch.equal(t, plain["a"].tensors[name]) for name, t in struck["a"].tensors.items())
    assert hub_rows(struck, "test") != hub_rows(plain, "test")


@pytest.mark.parametrize("kind", FAULTS)
def test_from_a_training_step_on_the_losses_part(kind: str, healthy: dict[str, SeatReport]) -> None:
    struck, plain = (hub_rows(r, "loss") for r in (run({"a": [{"kind": kind, **FAULTS[kind], "at": 9}]}), healthy))
    first = next(i for i, (one, other) in enumerate(zip(struck, plain, strict=True)) if one != other)
    assert first == (10 if kind == "weight_pgd" else 9)  # its first step up shows in the pass that follows


@pytest.mark.parametrize("kind", FAULTS)
def test_only_the_layers_that_are_named_are_struck(kind: str) -> None:
    still = {"optimiser": {"kind": "sgd", "lr": 1e-9}, "evaluate": 1}
    fault = {"kind": kind, **FAULTS[kind], "at": 15, "layers": ["2.*"]}
    off = distance(run({"a": [fault]}, **still)["a"], run(**still)["a"])
    assert off["0.weight"] == pytest.approx(0, abs=1e-6)
    assert off["2.weight"] > 1e-4
    with pytest.raises(ConfigError, match=rf"{kind}: layers: nothing here is called 7\.\*; there are 0\.weight"):
        run({"a": [{**fault, "layers": ["7.*"]}]})


@pytest.mark.parametrize("kind", [*FAULTS, *INPUTS])
def test_a_step_that_never_comes_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"{kind}: at: training step 20; this run has steps 0 to 19"):
        run({"a": [{"kind": kind, "at": 20}]})


def told(report: SeatReport, nth: int = 0) -> dict[str, Any]:
    return dict(report.describe["around"][nth])


def test_the_report_names_every_flipped_bit_and_they_are_real() -> None:
    seats = {"a": [{"kind": "bitflip", "count": 4, "part": "sign", "at": 19}]}
    report = run(seats)["a"]
    found = told(report)
    assert found["numbers"] == {"bits": 4, "weights changed": 4}
    assert len(found["changes"]) == 4
    for change in found["changes"]:
        assert change["bit"] == 31
        assert change["after"] == -change["before"]
    assert told(run(seats)["a"]) == found
    assert told(run(seats, embedding=5)["a"])["changes"] != found["changes"]


def test_stuck_bits_stay_and_flipped_ones_are_learnt_away() -> None:
    def signs(kind: str) -> tuple[list[Any], Tensor]:
        report = run({"a": [{"kind": kind, "part": "sign", "count": 12, "layers": ["2.weight"], "at": 0}]}, steps=20)[
            "a"
        ]
        changes = told(report)["changes"]
        return changes, torch.stack([report.tensors["2.weight"][tuple(each["at"])] for each in changes])

    _, values = signs("stuck")
    assert (values <= 0).all()
    changes, _ = signs("bitflip")
    assert any(change["before"] > 0 for change in changes)
    assert any(change["before"] < 0 for change in changes)


def test_quantised_weights_lie_on_a_grid_of_that_many_steps() -> None:
    seen = run(
        {"a": [{"kind": "quantise", "bits": 3, "layers": ["0.weight"], "at": 5}]}, optimiser={"kind": "sgd", "lr": 1e-9}
    )
    assert len(seen["a"].tensors["0.weight"].unique()) <= 7


@pytest.mark.parametrize("exchange", ["split", "shared"])
def test_a_climb_raises_the_loss_stays_in_its_ball_and_beats_noise_of_that_size(exchange: str) -> None:
    frozen = {"optimiser": {"kind": "sgd", "lr": 1e-9}, "steps": 60, "evaluate": 60, "exchange": exchange}
    eps = 0.2
    plain = run(**frozen)
    climbed = run({"a": [{"kind": "weight_pgd", "eps": eps, "at": 0}]}, **frozen)
    noise = run({"a": [{"kind": "gaussian", "scale": "absolute", "sigma": eps, "at": 0}]}, **frozen)
    off = distance(climbed["a"], plain["a"])
    assert max(off.values()) <= eps * 1.0001
    assert max(off.values()) > 0.9 * eps
    losses = {
        name: sum(hub_rows(r, "loss")[-7:]) for name, r in (("plain", plain), ("climb", climbed), ("noise", noise))
    }
    assert losses["climb"] > losses["plain"] * 1.1
    assert losses["climb"] > losses["noise"]
    assert told(climbed["a"])["numbers"] == {"gradients used": 60}


def test_the_server_and_a_party_that_is_the_hub_can_be_struck() -> None:
    fault = {"kind": "gaussian", "sigma": 3.0, "layers": ["top.*"]}
    assert hub_rows(run({"server": [fault]}), "test") != hub_rows(run(), "test")
    plain = run(labels="b")
    for layers in ("top.*", "bottom.*"):
        struck = run({"b": [{**fault, "layers": [layers]}]}, labels="b")
        assert hub_rows(struck, "loss") == hub_rows(plain, "loss")
        assert hub_rows(struck, "test") != hub_rows(plain, "test")
    climbed = run({"server": [{"kind": "weight_pgd", "eps": 0.3, "at": 5}]})
    assert hub_rows(climbed, "loss")[:6] == hub_rows(run(), "loss")[:6]
    assert sum(hub_rows(climbed, "loss")[-5:]) > sum(hub_rows(run(), "loss")[-5:])


@pytest.mark.parametrize("kind", INPUTS)
def test_corrupted_inputs(kind: str, healthy: dict[str, SeatReport]) -> None:
    late = run({"a": [{"kind": kind}]})
    assert hub_rows(late, "loss") == hub_rows(healthy, "loss")
    assert hub_rows(late, "test") != hub_rows(healthy, "test")
    early = run({"a": [{"kind": kind, "at": 7}]})
    same = [one == other for one, other in zip(hub_rows(early, "loss"), hub_rows(healthy, "loss"), strict=True)]
    assert same == [True] * 7 + [False] * 13
    assert told(early["a"])["numbers"]["rows that differ"] > 100
    with pytest.raises(ThreatModelError, match=f"{kind}: expected a seat with features, found a LabelHolder"):
        run({"server": [{"kind": kind}]})


def test_a_row_is_corrupted_in_the_same_way_every_time() -> None:
    rows = [told(run({"a": [{"kind": kind, **settings}]})["a"])["numbers"] for kind, settings in (
        ("shifted", {"by": 0.25}), ("missing", {"rate": 1.0}), ("noisy", {"sigma": 1e-3}))]  # fmt: skip
    assert rows[0]["largest change"] == pytest.approx(0.25, abs=1e-5)
    assert rows[1]["rows that differ"] == 200
    assert 0 < rows[2]["largest change"] < 0.01
    twice = run({"a": [{"kind": "noisy"}]}, evaluate=10)
    once = run({"a": [{"kind": "noisy"}]}, evaluate=20)
    assert hub_rows(twice, "test")[-1] == hub_rows(once, "test")[-1]


def test_wrappers_lie_around_each_other_and_a_victim_stays_one() -> None:
    trials = [{"attack": {"kind": "norm_scoring"}, "seat": "a", "victim": "server", "knows": ["rows"]}]
    seats = {"server": [{"kind": "gaussian"}, {"kind": "bitflip", "count": 1}], "a": [{"kind": "noisy", "at": 0}]}
    file = make_file(seats, {"trials": trials})
    reports = {report.role: report for report in Local().run(file, lambda role, row: None)}
    assert [each["kind"] for each in reports["server"].describe["around"]] == ["gaussian", "bitflip"]
    assert reports["a"].findings[0].verdict.scores["auc"] > 0


def test_formats_without_such_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match="words of int8 have no exponent bits"):
        make_file({"a": [{"kind": "bitflip", "format": "int8", "part": "exponent"}]})
    with pytest.raises(ConfigError, match="bitflip: 9000 bits to strike, but there are"):
        run({"a": [{"kind": "bitflip", "count": 9000}]})


def test_rows_that_a_flip_turns_into_no_number_count_as_wrong() -> None:
    all_ones = [{"kind": "stuck", "rate": 1.0, "part": "exponent"}]
    test = hub_rows(run({"a": all_ones}), "test")[-1]
    assert test["share_not_finite"] > 0.5
    assert test["accuracy"] <= 1 - test["share_not_finite"]
    with pytest.raises(DivergedError, match="a's own Embedding at training step 3 has "):
        run({"a": [{**all_ones[0], "at": 3}]})
