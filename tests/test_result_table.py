"""The result table at the end of a run, on narrow and on wide terminals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from terminal import fine

from fedsim.cli.tables import print_results

ARMS = {"clean", "mislabelled", "target", "source"}
METRICS = ("accuracy", "source accuracy", "taken for the poison label", "ROC AUC", "log loss", "traffic", "seconds")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms with more metrics than 80 columns have room for."""
    path = tmp_path_factory.mktemp("table") / "run"
    fine("run", "uda_poisoning", "--set", "scenario.steps=3", "--out", path)
    return path


@pytest.mark.parametrize("width", [100, 80, 60, 45])
def test_names_and_metrics_are_legible_at_any_width(
    run: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_results(run)
    table = capsys.readouterr().out.partition("run folder:")[0]
    assert max(map(len, table.splitlines())) <= width
    assert "…" not in table
    assert set(re.findall(r"\w+", table)) >= ARMS
    if width < 100:  # metrics stand below one another, as often as arms are parted
        rows = [line.partition("  ")[0] for line in table.splitlines()]
        assert [rows.count(metric) for metric in METRICS] == [{80: 1, 60: 2, 45: 3}[width]] * len(METRICS)
