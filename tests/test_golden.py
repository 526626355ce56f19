"""Losses that a change which must not alter results must not alter. ``python tests/test_golden.py`` writes them anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedsim import config

FOLDER = Path(__file__).parent / "golden"
RUNS = {
    "baseline": ["scenario.steps=30", "scenario.evaluate=30"],
    "labels": ["scenario.steps=30", "scenario.evaluate=30", "trials=[]"],
    "weight_faults": ["scenario.steps=20", "scenario.evaluate=20", "scenario.examination=null"],
    "uda_poisoning": ["scenario.steps=20", "scenario.evaluate=20"],
    "leakage": ["scenario.steps=12", "scenario.evaluate=12", "scenario.window.rounds=4", "trials=[]"],
}


def losses(name: str) -> dict[str, list[float]]:
    """The losses of each arm of a shortened scenario, by arm."""
    found = {}
    for arm, file in config.read(name, RUNS[name]).arms().items():
        hub = next(report for report in file.runtime.run(file, lambda role, row: None) if report.rows)
        found[arm] = [row["loss"] for row in hub.rows if "loss" in row]
    return found


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_those_on_record(name: str) -> None:
    recorded = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    found = losses(name)
    assert found.keys() == recorded.keys()
    for (
        arm,
        values,
    ) in recorded.items():  # other processors round otherwise: to the bit only on the machine of the record
        assert found[arm] == pytest.approx(values, rel=1e-4)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in RUNS:
        (FOLDER / f"{each}.json").write_text(json.dumps(losses(each), indent=1) + "\n", encoding="utf-8")
