"""The loss of every training step is looked at: one that is no number ends the run, one that explodes is told of once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from meddling import made
from terminal import TABLE, fedsim, write_table

from fedsim.errors import DivergedError
from fedsim.net import Net
from fedsim.rows import Rows
from fedsim.runtime.local import Local
from fedsim.transport.memory import MemoryNetwork
from fedsim.vfl.losses import Losses


def a_net(shown: list[Any]) -> Net:
    network = MemoryNetwork(["server"])
    return Net("server", "server", ["server"], network.transport("server"), watch=lambda role, row: shown.append(row))


def test_a_loss_that_explodes_is_told_of_once_and_training_goes_on() -> None:
    shown: list[dict[str, Any]] = []
    file = made(optimiser={"kind": "sgd", "lr": 30.0}, bottom={"kind": "linear"})
    reports = Local().run(file, lambda role, row: shown.append(dict(row)))
    losses = [row["loss"] for report in reports for row in report.rows if "loss" in row]
    first = next(i for i, loss in enumerate(losses) if loss > 1000 * max(1.0, losses[0]))
    assert len(losses) == 12
    assert sum(loss > 1000 * max(1.0, losses[0]) for loss in losses) > 1
    (line,) = [row["notice"] for row in shown if "notice" in row]
    assert line == (
        f"at training step {first} the loss is {losses[first]:.4g}, {losses[first - 1]:.4g} before: over 1000 nats and 1000 "
        "times that of the first step; training goes on, but try a smaller optimiser.lr, or less noise"
    )


def test_a_loss_that_is_no_number_ends_the_run_at_its_step() -> None:
    losses = Losses(a_net([]))
    with pytest.raises(
        DivergedError, match=r"^training diverged: at training step 0 the loss is nan, there was none before; "
    ):
        losses.note(0, float("nan"))
    losses.note(0, 0.75)
    with pytest.raises(
        DivergedError, match=r"^training diverged: at training step 1 the loss is inf, 0\.75 before; try a "
    ):
        losses.note(1, float("inf"))


def test_what_was_logged_before_a_run_was_taken_up_counts() -> None:
    shown: list[Any] = []
    net = a_net(shown)
    net.rows = Rows([{"step": 0, "loss": 0.5}, {"step": 1, "loss": 5000.0}, {"step": 2, "loss": 2.0}])
    losses = Losses(net)
    losses.note(3, 6000.0)
    assert [row for row in shown if "notice" in row] == []
    net.rows = Rows([{"step": 0, "loss": 5.0}, {"step": 1, "loss": 3.0}])
    losses = Losses(net)
    for step, loss in ((2, 4999.0), (3, 5001.0), (4, 9999.0)):
        losses.note(step, loss)
    assert [row["notice"].partition(",")[0] for row in shown if "notice" in row] == [
        "at training step 3 the loss is 5001"
    ]
    assert [row["loss"] for row in net.rows] == [5.0, 3.0, 4999.0, 5001.0, 9999.0]


def test_of_several_exchanges_of_a_step_the_first_is_logged_and_all_are_looked_at() -> None:
    net = a_net([])
    losses = Losses(net)
    losses.note(0, 1.0)
    losses.note(0, 2.0)
    assert list(net.rows) == [{"step": 0, "loss": 1.0}]
    with pytest.raises(DivergedError, match="at training step 0 the loss is nan"):
        losses.note(0, float("nan"))


def test_of_several_arms_the_one_that_diverges_ends_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    wild = "{scenario: {optimiser: {kind: sgd, lr: 1.0e+30}}}"
    (tmp_path / "s.yaml").write_text(TABLE + f"compare: {{wild: {wild}, plain: {{}}}}\n")
    said = fedsim("run", "s.yaml", "--out", "run")
    assert said.code == 1
    line = "run: 1 of 2 arms diverged, the report is over the others; “wild”: training diverged: "
    assert said.err.splitlines()[-1].startswith(f"fedsim: {line}")
    manifest = json.loads((tmp_path / "run/manifest.json").read_text("utf-8"))
    assert (manifest["status"], manifest["cause"].startswith(f"DivergedError: {line}")) == ("failed", True)
    assert list(json.loads((tmp_path / "run/summary.json").read_text("utf-8"))["arms"]) == ["plain"]
    assert "1 of 2 arms diverged" in (tmp_path / "run/report.html").read_text("utf-8")
    both = fedsim("run", "s.yaml", "--out", "both", "--set", f"compare={{wild: {wild}, wilder: {wild}}}")
    assert both.err.splitlines()[-1].startswith("fedsim: training diverged: ")
