"""What a sweep comes to: the figures of a cell, who beats whom, which way pictures and shades turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from terminal import TABLE, write_table

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.report.curves import as_text
from fedsim.report.folder import RunFolder
from fedsim.report.reading import read_sweep
from fedsim.report.sweep_page import matrices, render, sentences
from fedsim.report.sweeps import figures, leakage_metric, over_cells
from fedsim.report.tradeoff import along, pareto

ATTACK = "{attack: {kind: norm_scoring}, seat: a, knows: [rows]}"
TRIALS = f"trials=[{ATTACK}]"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    return tmp_path


def summary(task: float, *scores: float) -> dict[str, Any]:
    """The part of a run's summary that a sweep reads; a trial for each score."""
    trials = [
        {
            "trial": i,
            "attack": "x",
            "label": "x",
            "seat": "a",
            "victim": "server",
            "metric": "auc",
            "knows": [],
            "score": score,
            "chance": 0.5,
            "scores": {"auc": score, "mse": score},
            "chances": {"auc": 0.5, "mse": 1.0},
        }
        for i, score in enumerate(scores)
    ]
    arm = {"task": {"accuracy": task, "log_loss": -task}, "trials": trials, "traffic": {"frames": 1, "bytes": 1}}
    arm |= {"steps": 1, "seconds": 1.0}
    return {**arm, "name": "x", "scenario": "baseline", "runtime": "local", "seed": 0, "arms": {"x": arm}}


def sweep(here: Path, grid: str, found: dict[str, dict[str, Any]], *overrides: str) -> dict[str, Any]:
    """The summary of a sweep whose runs came to what ``found`` says, by cell."""
    file = swept(here, grid, *overrides)
    folders = {cell.name: f"run-{i}" for i, (cell, _) in enumerate(file.cells())}
    for name, numbers in found.items():
        (here / folders[name]).mkdir(exist_ok=True)
        (here / folders[name] / "manifest.json").write_text('{"status": "complete"}')
        (here / folders[name] / "summary.json").write_text(json.dumps(numbers))
    return over_cells(file, [(cell, 0, folders[cell.name]) for cell, _ in file.cells()], {}, here)


def swept(here: Path, grid: str, *overrides: str) -> ScenarioFile:
    (here / "s.yaml").write_text(f"{TABLE}sweep: {{grid: {grid}}}\n")
    return config.read(str(here / "s.yaml"), overrides)


def page(here: Path, summary: dict[str, Any]) -> str:
    file = config.read(str(here / "s.yaml"))
    with RunFolder.open_for(here / f"out-{summary['digest'][:8]}", file, [], sweep=True) as folder:
        folder.write_summary(summary)
    return render(read_sweep(folder.path)).partition('<section id="reproduce">')[0].lower()


def front(summary: dict[str, Any]) -> list[str]:
    return [cell["name"] for cell in summary["cells"] if cell["front"]]


def test_the_strongest_attack_of_a_run_counts() -> None:
    assert figures(summary(0.9, 0.6, 0.8), "accuracy", "auc") == {"task": 0.9, "leakage": 0.8, "chance": 0.5}
    assert figures(summary(0.9, 0.6, 0.8), "accuracy", "mse") == {"task": 0.9, "leakage": 0.6, "chance": 1.0}
    assert figures(summary(0.9), "roc_auc", "auc") == {"task": None, "leakage": None, "chance": None}


@pytest.mark.parametrize("task", ["accuracy", "log_loss"])
def test_a_cell_is_marked_unless_another_is_better_in_both(here: Path, task: str) -> None:
    found = {"batch 1": summary(0.9, 0.8), "batch 2": summary(0.7, 0.5), "batch 3": summary(0.6, 0.6)}
    made = sweep(here, "{scenario.batch: [1, 2, 3]}", found, TRIALS, f"sweep.task={task}")
    assert front(made) == ["batch 1", "batch 2"]


def test_a_weak_attacker_is_no_merit_of_a_defence(here: Path) -> None:
    who = f"{{one: {{trials: [{ATTACK}]}}, other: {{trials: [{ATTACK.replace('seat: a', 'seat: b')}]}}}}"
    found = {
        "batch 1, one": (0.9, 0.8),
        "batch 1, other": (0.9, 0.5),
        "batch 2, one": (0.8, 0.7),
        "batch 2, other": (0.8, 0.6),
    }
    made = sweep(
        here, f"{{scenario.batch: [1, 2], who: {who}}}", {name: summary(*both) for name, both in found.items()}
    )
    assert made["attackers"] == ["who"]
    assert front(made) == ["batch 1, one", "batch 1, other", "batch 2, one"]


def test_cells_that_do_not_differ_have_no_best(here: Path) -> None:
    equal = sweep(here, "{scenario.batch: [1, 2]}", {f"batch {n}": summary(0.042, 0.8) for n in (1, 2)}, TRIALS)
    assert front(equal) == []
    assert sentences(equal) == [
        "Leakage by AUC: .800 in every cell, which tells none from another.",
        "Test accuracy: .042 in every cell, which tells none from another.",
    ]
    assert "◦ marks" not in page(here, equal) or not any(cell["front"] for cell in equal["cells"])
    apart = {"batch 1": summary(0.9, 0.8), "batch 2": summary(0.9, 0.7)}
    assert front(sweep(here, "{scenario.batch: [1, 2]}", apart, TRIALS)) == ["batch 2"]


def test_cells_that_learned_nothing_are_said_to_be_so_and_are_not_the_best(here: Path) -> None:
    def against(constant: float, task: float, leak: float) -> dict[str, Any]:
        found = summary(task, leak)
        for arm in (found, found["arms"]["x"]):
            arm["baseline"] = {"accuracy": constant}
        return found

    found = {"batch 1": against(0.5, 0.5, 0.5), "batch 2": against(0.5, 0.9, 0.8)}
    made = sweep(here, "{scenario.batch: [1, 2]}", found, TRIALS)
    assert front(made) == ["batch 2"]
    assert sentences(made)[1].endswith(
        " A constant guess: .500. 1 of 2 cells have not learned more than a constant guess; "
        "train for more steps before comparing them."
    )
    idle = sweep(
        here, "{scenario.batch: [3, 4]}", {"batch 3": against(0.5, 0.4, 0.5), "batch 4": against(0.5, 0.5, 0.6)}, TRIALS
    )
    assert front(idle) == []
    assert "No cell has learned more than a constant guess; train for more steps" in sentences(idle)[1]


def test_a_matrix_has_attackers_across_and_is_darkest_where_most_leaks(here: Path) -> None:
    who = f"{{one: {{trials: [{ATTACK}]}}, other: {{trials: [{ATTACK.replace('seat: a', 'seat: b')}]}}}}"
    found = {"one, batch 1": summary(0.9, 0.8), "one, batch 2": summary(0.7, 0.5), "other, batch 2": summary(0.7, 0.6)}
    leakage, task = matrices(sweep(here, f"{{who: {who}, scenario.batch: [1, 2]}}", found))
    assert (leakage.rows, leakage.columns, leakage.labels) == ("batch", "who", ["one", "other"])
    (row_1, (one_1, other_1)), (row_2, (one_2, other_2)) = leakage.lines
    assert (row_1, row_2, other_1) == ("1", "2", (None, 0.0))
    assert [one_1[1], one_2[1], round(other_2[1], 6)] == [1.0, 0.0, 0.333333]
    assert [spread["mean"] for spread, _ in (one_1, one_2) if spread] == [0.8, 0.5]
    assert task.title == "test accuracy"


def test_every_further_axis_has_matrices_of_its_own(here: Path) -> None:
    grid = "{scenario.batch: [1, 2], scenario.steps: [3, 4], threads: [1, 2]}"
    names = [f"batch {b}, steps {s}, threads {t}" for b in (1, 2) for s in (3, 4) for t in (1, 2)]
    made = sweep(here, grid, {name: summary(0.9) for name in names})
    assert [matrix.title for matrix in matrices(made)] == ["test accuracy, threads 1", "test accuracy, threads 2"]
    assert (pareto(made), [axis for axis, _ in along(made)]) == (None, ["scenario.batch", "scenario.steps", "threads"])


def test_runs_that_are_not_there_are_counted(here: Path) -> None:
    made = sweep(here, "{scenario.batch: [1, 2]}", {"batch 1": summary(0.9)})
    assert [cell["left_out"] for cell in made["cells"]] == [0, 1]
    assert sentences(made) == ["Test accuracy: from .900 (“batch 1”) to .900 (“batch 1”)."]
    assert sentences({**made, "cells": made["cells"][1:]}) == ["No run came to its end."]


def test_without_attacks_the_page_does_not_speak_of_leakage(here: Path) -> None:
    made = sweep(here, "{scenario.batch: [1, 2], threads: [1, 2]}", {"batch 1, threads 1": summary(0.9)})
    assert "leak" not in page(here, made)
    assert "leak" in page(here, sweep(here, "{scenario.batch: [3]}", {"batch 3": summary(0.9, 0.8)}, TRIALS))


def test_the_metric_is_one_that_all_attacks_have(here: Path) -> None:
    cafe = "{attack: {kind: cafe}, seat: server, victim: a, knows: [rows, bottom], metric: %s}"
    both = [f"{{{name}: {{trials: [{cafe % metric}]}}}}" for name, metric in (("x", "psnr"), ("y", "mse"))]
    grid = "{who: {" + ", ".join(each[1:-1] for each in both) + "}}"
    columns = [
        "scenario.exchange=shared",
        "scenario.data.drop=[w]",
        "scenario.parties={a: {columns: u}, b: {columns: v}}",
    ]
    assert leakage_metric(swept(here, grid, *columns)) == "psnr"
    assert leakage_metric(swept(here, grid, *columns, "sweep.leakage=mse")) == "mse"
    assert leakage_metric(swept(here, "{scenario.batch: [1]}")) == ""


def test_names_are_no_formulas(here: Path) -> None:
    assert as_text("$x$") == r"\$x\$"
    grid = "{scenario.batch: [1, 2], odd: {$\\frac$: , '<b>': }}"
    file = swept(here, grid, TRIALS)
    made = sweep(here, grid, {cell.name: summary(0.9, 0.8) for cell, _ in file.cells()}, TRIALS)
    assert len(along(made)) == 1
    assert pareto(made) is not None
