"""Beside every score of the task stands what a constant guess scores on the same rows."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn import metrics as reference
from small import SMALL, small
from terminal import fine

from fedsim import config
from fedsim.cli.tables import print_results
from fedsim.config import ScenarioFile
from fedsim.metrics import classification, count_classes, score_constant_guess
from fedsim.outcome import SeatReport
from fedsim.report import page, reading
from fedsim.report.folder import RunFolder
from fedsim.report.headline import sentences, unbalanced
from fedsim.report.seeds import over_seeds
from fedsim.report.summary import Arm
from fedsim.report.view import views
from fedsim.report.words import number

SCENARIO = {
    "kind": "baseline",
    "data": {"kind": "synthetic", "count": 200, "features": 8, "informative": 6, "test": 60, "imbalance": 0.12},
    "parties": {"north": {"columns": "0:4"}, "east": {"columns": "4:8"}},
    "embedding": 4,
    "batch": 10,
    "steps": 8,
    "evaluate": 4,
}


def scenario(**more: Any) -> ScenarioFile:
    return config.validate({"name": "skewed", "scenario": SCENARIO, **more}, "skewed", {})


def play(path: Path, file: ScenarioFile) -> Path:
    with RunFolder.open_for(path, file) as run:
        run.write([Arm(name, arm, arm.runtime.run(arm, run.watch(name)), 1.0) for name, arm in file.arms().items()])
    return path


def hub_of(reports: list[SeatReport]) -> SeatReport:
    return next(report for report in reports if any("test" in row for row in report.rows))


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(tmp_path_factory.mktemp("task") / "skewed", scenario())


def test_the_guess_is_the_commonest_training_class_with_the_shares_as_probabilities() -> None:
    train, held_out = torch.tensor([0] * 6 + [1] * 3 + [2]), torch.tensor([0, 1, 1, 2])
    found = score_constant_guess(count_classes(train, 3), held_out)
    assert found["accuracy"] == 0.25  # though class 1 is the commonest of the held-out rows
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["macro_f1"] == pytest.approx(reference.f1_score(held_out, [0] * 4, average="macro", zero_division=0))
    assert found["log_loss"] == pytest.approx(-(math.log(0.6) + 2 * math.log(0.3) + math.log(0.1)) / 4)
    assert found["roc_auc"] == 0.5


def test_rows_without_a_label_do_not_count() -> None:
    assert count_classes(torch.tensor([1, -1, 1, 0, -1]), 3).tolist() == [1, 2, 0]


def test_the_guess_has_the_scores_that_a_classifier_has() -> None:
    labels = torch.tensor([0, 1, 1, 0, 1])
    scores = classification(torch.tensor([[0.2, 0.8]] * 5), labels)
    assert score_constant_guess(torch.tensor([2, 8]), labels) == pytest.approx(scores)


WITHOUT = {
    "best_arm": {"decided", "pulls", "pilot_pulls", "gap", "four_times_bias", "sigma", "best_gain", "dropped"},
    "minmax": {"examples"},
    "uda_poisoning": {"marginal_mismatch", "lower_bound", "labelling_mismatch"},
}
"""What no guess at a class can score: counts, distances, bounds."""


@pytest.mark.parametrize("name", SMALL)
def test_every_score_of_every_scenario_has_a_baseline(name: str) -> None:
    file = small(name)
    row = next(row for row in reversed(hub_of(file.runtime.run(file, lambda role, row: None)).rows) if "test" in row)
    without = {metric for metric in row["test"] if metric not in row["baseline"]}
    assert {metric for metric in without if not metric.endswith("_weight")} == WITHOUT.get(name, set())
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in row["baseline"].values())


def test_the_baseline_knows_the_source_only_under_domain_adaptation() -> None:
    """With one class only in the source its guess is right wherever the target has that class."""
    file = small("uda_poisoning")
    report = hub_of(file.runtime.run(file, lambda role, row: None))
    row = next(row for row in reversed(report.rows) if "test" in row)
    counts = torch.tensor(report.sidecar["class_counts"])
    assert int(counts.sum()) == 50  # labelled rows of the source, none that were entered
    assert 0 <= row["baseline"]["source_accuracy"] <= 1
    assert row["baseline"]["accuracy"] + row["baseline"]["poison_label"] <= 1


def test_wrong_labels_in_training_do_not_move_the_baseline() -> None:
    plain, wrong = scenario(), scenario(seats={"server": [{"kind": "wrong_labels", "rate": 1.0}]})
    found = [hub_of(file.runtime.run(file, lambda role, row: None)).rows[-1]["baseline"] for file in (plain, wrong)]
    assert found[0] == found[1]


def test_the_baseline_of_a_run_is_that_of_its_rows(skewed: Path) -> None:
    summary = json.loads((skewed / "summary.json").read_text())
    counts = json.loads((skewed / "model" / "server.json").read_text())["class_counts"]
    assert summary["baseline"]["roc_auc"] == 0.5
    assert summary["baseline"]["balanced_accuracy"] == 0.5
    assert sum(counts) == 140
    assert summary["baseline"]["accuracy"] > 0.7
    assert summary["task"].keys() == summary["baseline"].keys()


def test_the_headline_speaks_of_the_difference(skewed: Path) -> None:
    run = reading.read(skewed)
    task, constant = run.summary["task"], run.summary["baseline"]
    text = " ".join(sentences(views([run])))
    assert f"A constant guess has accuracy {number(constant['accuracy'])} (" in text
    gain = re.search(r"A constant guess has accuracy \S+ \(([+−±]\S*) against it\)", text)
    assert gain is not None
    value = float(gain[1].replace("−", "-").replace("±", "")) if gain[1] != "±0" else 0.0
    assert value == pytest.approx(task["accuracy"] - constant["accuracy"], abs=6e-4)
    assert f"Classes are unbalanced. Balanced accuracy: {number(task['balanced_accuracy'])}." in text


def test_balanced_classes_are_not_said_to_be_unbalanced() -> None:
    assert unbalanced({"accuracy": 0.885, "balanced_accuracy": 0.5})
    assert unbalanced({"accuracy": 0.4, "balanced_accuracy": 0.1})
    assert not unbalanced({"accuracy": 0.115, "balanced_accuracy": 0.1})
    assert not unbalanced({})


def test_the_page_shows_the_baseline_of_every_score(skewed: Path) -> None:
    run = reading.read(skewed)
    text = html.unescape(page.render([run]))
    for metric, value in run.summary["baseline"].items():
        assert number(value, metric) in text
    table = text.partition('<section id="results">')[2].partition("</table>")[0]
    line = re.findall(r'<tr class="constant"><th>constant guess</th>(.*?)</tr>', table, re.S)
    values = re.findall(r'<td class="n">([^<]+)</td>', line[0])
    assert values == [number(value, metric) for metric, value in run.summary["baseline"].items()]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_terminal_shows_it(
    skewed: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_results(skewed)
    text = capsys.readouterr().out
    constant = json.loads((skewed / "summary.json").read_text())["baseline"]
    assert max(map(len, text.partition("run folder")[0].splitlines())) <= width
    table = text.partition("constant guess: the commonest")[0]
    assert "balanced" in table
    assert "constant" in table
    assert number(constant["accuracy"]) in table


def test_arms_with_other_data_have_a_baseline_each(tmp_path: Path) -> None:
    other = {"scenario": {"data": {**SCENARIO["data"], "imbalance": 0.4}}}  # type: ignore[dict-item]
    path = play(tmp_path / "run", scenario(compare={"rare": {}, "common": other}))
    text = html.unescape(page.render([reading.read(path)]))
    assert re.search(
        r"A constant guess has accuracy \S+ with “rare” \(\S+ against it\) and \S+ with “common” \(\S+\)\.", text
    )
    assert text.count("constant guess<small>") == 2


def test_it_holds_over_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [play(tmp_path / f"seed-{seed}", scenario(seed=seed)) for seed in (0, 1, 2)]
    each = [json.loads((path / "summary.json").read_text()) for path in runs]
    summary = over_seeds({path.name: one for path, one in zip(runs, each, strict=True)})
    arm = summary["arms"]["skewed"]
    assert arm["baseline"]["accuracy"]["values"] == [one["baseline"]["accuracy"] for one in each]
    gains = [one["task"]["accuracy"] - one["baseline"]["accuracy"] for one in each]
    assert arm["gain"]["accuracy"]["values"] == pytest.approx(gains)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "manifest.json").write_text((runs[0] / "manifest.json").read_text())
    (tmp_path / "scenario.yaml").write_text((runs[0] / "scenario.yaml").read_text())
    text = html.unescape(page.render([reading.read(tmp_path)]))
    mean = number(arm["baseline"]["accuracy"]["mean"])
    assert f"against a constant guess, {mean})" in text
    assert f"<small>constant guess {mean}</small>" in text
    print_results(tmp_path)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("accuracy"))
    assert line.rstrip().endswith(mean)


def test_a_resumed_run_has_the_same_baseline(tmp_path: Path) -> None:
    """The guess follows from the data, not from what was played before the interruption."""
    file = scenario()
    one, two = (hub_of(file.runtime.run(file, lambda role, row: None)).rows for _ in range(2))
    assert [row["baseline"] for row in one if "test" in row] == [row["baseline"] for row in two if "test" in row]
    assert len({json.dumps(row["baseline"]) for row in one if "test" in row}) == 1


def test_runs_of_earlier_versions_have_no_baseline_and_still_a_page(skewed: Path, tmp_path: Path) -> None:
    import shutil

    old = tmp_path / "old"
    shutil.copytree(skewed, old)
    summary = json.loads((old / "summary.json").read_text())
    for part in (summary, *summary["arms"].values()):
        for key in ("baseline", "measured_on"):
            del part[key]
    (old / "summary.json").write_text(json.dumps(summary))
    text = page.render([reading.read(old)])
    assert "onstant guess" not in text
    assert "reached test accuracy" in text
    fine("diff", old, skewed)


def test_a_model_card_shows_the_baseline(tmp_path: Path) -> None:
    path = play(tmp_path / "run", scenario())
    fine("card", path, "--no-training")
    card, text = json.loads((path / "card.json").read_text()), (path / "card.md").read_text()
    assert card["baseline"]["accuracy"] == json.loads((path / "summary.json").read_text())["baseline"]["accuracy"]
    row = next(line for line in text.splitlines() if line.startswith("| accuracy |"))
    assert row == f"| accuracy | {number(card['task']['accuracy'])} | {number(card['baseline']['accuracy'])} |"
