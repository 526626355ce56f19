"""Defences that are settings of the protocol: no bias in the first linear layer, every row in every batch, no server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from fedsim.config import ScenarioFile, validate
from fedsim.errors import FedsimError, ThreatModelError
from fedsim.models import ModelConfig
from fedsim.outcome import SeatReport
from fedsim.plugins import load
from fedsim.runtime.local import memory, play_all

MODELS: Mapping[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "linear": ({"kind": "linear"}, (6,)),
    "mlp": ({"kind": "mlp", "hidden": [8, 5]}, (6,)),
    "cafe_cnn": ({"kind": "cafe_cnn", "channels": [2, 3], "units": 8}, (1, 8, 8)),
}


def table(seat: str = "server", attacked: bool = True, **settings: Any) -> ScenarioFile:
    """24 rows and 12 columns, halved between two parties; models stand still for 40 rounds of 8 rows."""
    scenario = {
        "kind": "leakage",
        "exchange": "shared",
        "data": {"kind": "synthetic", "count": 40, "features": 12, "informative": 8, "test": 16},
        "parties": {"shop": {"columns": "0:6"}, "bank": {"columns": "6:12"}},
        "bottom": {"kind": "linear"},
        "embedding": 8,
        "batch": 8,
        "sampling": "uniform",
        "steps": 120,
        "evaluate": 120,
        "optimiser": {"kind": "adam", "lr": 0.01},
        "window": {"from": 0, "rounds": 40},
        **settings,
    }
    trial = {"attack": {"kind": "cafe"}, "seat": seat, "knows": ["rows", "bottom"]}
    trials = [trial] if attacked else []
    return validate({"name": "test", "seed": 3, "scenario": scenario, "trials": trials}, "test", {})


def played(file: ScenarioFile) -> dict[str, SeatReport]:
    return {report.role: report for report in asyncio.run(play_all(file, memory(file.plan())))}


def accuracy(reports: Mapping[str, SeatReport]) -> float:
    return float([row["test"]["accuracy"] for row in reports["server"].rows if "test" in row][-1])


def traffic(reports: Mapping[str, SeatReport]) -> int:
    return sum(sum(report.traffic.size.values()) for report in reports.values())


@pytest.mark.parametrize("name", MODELS)
def test_only_the_first_linear_layer_goes_without_a_bias(name: str) -> None:
    settings, shape = MODELS[name]
    with_bias, without = (
        dict(load("models", ModelConfig, {**settings, "bias": bias}).build(shape, 4).named_parameters())
        for bias in (True, False)
    )
    (gone,) = with_bias.keys() - without.keys()
    linear = [key for key, tensor in with_bias.items() if key.endswith("weight") and tensor.ndim == 2]
    assert gone == linear[0].replace("weight", "bias")


@pytest.mark.parametrize("bottom", [{"kind": "linear"}, {"kind": "mlp", "hidden": [16]}], ids=["linear", "mlp"])
def test_cafe_refuses_a_bottom_without_that_bias_and_says_why(bottom: dict[str, Any]) -> None:
    with pytest.raises(ThreatModelError, match="has none, so step I has nothing to solve"):
        played(table(bottom={**bottom, "bias": False}))


def test_no_bias_and_full_batches_have_a_price_that_is_measured() -> None:
    plain = played(table(attacked=False))
    biasless = played(table(attacked=False, bottom={"kind": "linear", "bias": False}))
    full = played(table(batch=24, attacked=False))
    assert traffic(biasless) < traffic(plain) < traffic(full)
    assert accuracy(biasless) > accuracy(plain) - 0.15
    assert accuracy(full) > accuracy(plain) - 0.15


def test_with_every_row_in_every_batch_cafe_cannot_tell_rows_apart() -> None:
    for finding in played(table(batch=24))["server"].findings:
        assert finding.claim.notes["rank"] == 1
        assert float(finding.verdict.scores["identified"]) < 0.25
        assert float(finding.verdict.scores["psnr"]) < float(finding.verdict.chance["psnr"]) + 3.0


def test_with_the_labels_at_a_party_there_is_no_server_that_could_attack() -> None:
    with pytest.raises(FedsimError, match="server"):
        table(labels="bank").plan()


def test_but_the_party_with_the_labels_takes_the_servers_place_and_knows_the_batches() -> None:
    (finding,) = played(table(seat="bank", labels="bank"))["bank"].findings
    assert finding.aim.victim == "shop"
    assert float(finding.verdict.scores["psnr"]) == 60.0
    assert float(finding.verdict.scores["identified"]) == 1.0
    assert float(finding.verdict.scores["column_error"]) < 1e-3
