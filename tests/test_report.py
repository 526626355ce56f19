"""The run folder, its numbers and how two runs differ, on short real runs."""

import json
import math
from pathlib import Path

import pytest
import scipy.stats

from fedsim import config, state
from fedsim.config import ScenarioFile
from fedsim.errors import OutputError
from fedsim.report import diff, folder, reading
from fedsim.report.folder import RunFolder
from fedsim.report.seeds import rederive, spread, spread_difference
from fedsim.report.summary import Arm, summarise

SHORT = (
    "scenario.steps=12",
    "scenario.evaluate=6",
    "trials=[{attack: {kind: norm_scoring}, seat: imaging, knows: [rows]}]",
    "compare={plain: {}, noisy: {links: [{message: Embedding, sender: [{kind: gaussian_noise, sigma: 2}]}]}}",
)


def play(path: Path, file: ScenarioFile) -> list[Arm]:
    with RunFolder.open_for(path, file, ["fedsim", "run", "baseline"]) as run:
        arms = [Arm(n, a, a.runtime.run(a, run.watch(n)), 1.5) for n, a in file.arms().items()]
        run.write(arms)
    return arms


@pytest.fixture(scope="module")
def file() -> ScenarioFile:
    return config.read("baseline", SHORT)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, file: ScenarioFile) -> tuple[Path, list[Arm]]:
    path = tmp_path_factory.mktemp("runs") / "one"
    return path, play(path, file)


def test_the_summary_is_the_contract(played: tuple[Path, list[Arm]], file: ScenarioFile) -> None:
    path, arms = played
    summary = json.loads((path / "summary.json").read_text())
    top = ["schema", "name", "digest", "seed", "runtime", "scenario", "measured_on", "task", "baseline"]
    assert list(summary) == [*top, "trials", "weights_sha256", "traffic", "steps", "missing", "seconds", "arms"]
    assert (summary["schema"], summary["name"], summary["digest"]) == (1, "baseline", file.digest())
    assert (summary["seed"], summary["runtime"], summary["scenario"]) == (7, "local", "baseline")
    assert (summary["steps"], summary["seconds"]) == (12, 1.5)
    assert summary["task"] == [row["test"] for row in arms[0].reports[0].rows if "test" in row][-1]
    assert list(summary["arms"]) == ["plain", "noisy"]
    assert summary["arms"]["noisy"].keys() == summary.keys() - {"schema", "arms"}
    assert summary["arms"]["noisy"]["digest"] == file.arms()["noisy"].digest()
    assert summary["arms"]["noisy"]["weights_sha256"] != summary["weights_sha256"]


def test_a_trial_carries_score_chance_and_knowledge(played: tuple[Path, list[Arm]]) -> None:
    path, arms = played
    trial = json.loads((path / "summary.json").read_text())["trials"][0]
    verdict = arms[0].reports[1].findings[0].verdict
    assert trial["score"] == verdict.scores["auc"] == trial["scores"]["auc"]
    assert trial["chance"] == verdict.chance["auc"] == trial["chances"]["auc"]
    who = {key: trial[key] for key in ("attack", "seat", "victim", "metric", "knows")}
    assert who == {"attack": "norm_scoring", "seat": "imaging", "victim": "server", "metric": "auc", "knows": ["rows"]}


def test_traffic_is_the_sum_over_links(played: tuple[Path, list[Arm]]) -> None:
    run = reading.read(played[0])
    for name, arm in run.summary["arms"].items():
        links = run.records[name]["traffic"]
        assert arm["traffic"] == {k: sum(link[k] for link in links) for k in ("frames", "bytes")}
        frames = {(link["from"], link["to"], link["message"]): link["frames"] for link in links}
        assert frames["server", "imaging", "Gradient"] == 12


@pytest.mark.parametrize("arm", [None, "plain", "noisy"])
def test_reloaded_weights_are_the_trained_ones(played: tuple[Path, list[Arm]], arm: str | None) -> None:
    path, arms = played
    seats = reading.load_seats(path, arm)
    expected = reading.read(path).summary["arms"][arm or "plain"]["weights_sha256"]
    assert {role: state.digest(tensors) for role, (tensors, _) in seats.items()} == expected
    reports = arms[0 if arm != "noisy" else 1].reports
    assert {role: sidecar for role, (_, sidecar) in seats.items()} == {r.role: r.sidecar for r in reports}
    with pytest.raises(OutputError, match="no arm 'loud'; there are: plain, noisy"):
        reading.load_seats(path, "loud")


def test_the_model_of_the_first_arm_lies_on_top(played: tuple[Path, list[Arm]]) -> None:
    found = sorted(p.relative_to(played[0]).as_posix() for p in (played[0] / "model").rglob("*.safetensors"))
    seats = ["imaging", "pathology", "server"]
    assert found == sorted(f"model/{arm}{s}.safetensors" for arm in ("", "noisy/") for s in seats)


def test_claims_can_be_read_back(played: tuple[Path, list[Arm]]) -> None:
    path, arms = played
    tensors = reading.read(path).tensors("claims/noisy/0-norm_scoring-server.safetensors")
    claim = arms[1].reports[1].findings[0].claim
    assert state.digest(tensors) == state.digest({"rows": claim.rows, "values": claim.values})
    with pytest.raises(OutputError, match="outside"):
        reading.read(path).tensors("../../secret.safetensors")


def test_the_written_scenario_is_the_same_experiment(played: tuple[Path, list[Arm]], file: ScenarioFile) -> None:
    assert config.read(str(played[0] / "scenario.yaml")).digest() == file.digest()


@pytest.mark.parametrize("name", ["1e-3", "0:14", "yes", "a b # c", "'\"{}[]", "null", "ärm ö"])
def test_any_name_of_an_arm_survives_the_scenario_file(tmp_path: Path, name: str) -> None:
    data = {**config.read("baseline").resolved(), "compare": {name: {"seed": 3}, "other": {}}}
    file = config.validate(data, "test", {})
    (tmp_path / "again.yaml").write_text(folder.scenario_text(file), encoding="utf-8")
    again = config.read(str(tmp_path / "again.yaml"))
    assert (again.digest(), list(again.compare)) == (file.digest(), list(file.compare))


def test_rows_are_logged_while_they_come_and_signs_of_life_are_not(tmp_path: Path, file: ScenarioFile) -> None:
    seen = []
    with RunFolder.open_for(tmp_path, file) as run:
        watch = run.watch("plain", lambda role, row: seen.append(row))
        watch("server", {"step": 0, "loss": math.nan})
        watch("server", {"claim": "cafe", "done": 0.5})
        rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [{"arm": "plain", "role": "server", "step": 0, "loss": None}]
    assert len(seen) == 2


def test_metrics_hold_every_row_of_every_arm(played: tuple[Path, list[Arm]]) -> None:
    rows = reading.read(played[0]).rows
    assert [row["step"] for row in rows if row["arm"] == "noisy" and "loss" in row] == list(range(12))
    assert [row["step"] for row in rows if row["arm"] == "plain" and "test" in row] == [6, 12]
    assert {row["role"] for row in rows} == {"server"}


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (None, "complete", None),
        (KeyboardInterrupt(), "interrupted", "stopped from outside"),
        (ValueError("two\nlines"), "failed", "ValueError: two lines"),
    ],
)
def test_leaving_the_folder_settles_its_status(
    tmp_path: Path, file: ScenarioFile, error: BaseException | None, status: str, cause: str | None
) -> None:
    def leave() -> None:
        with RunFolder.open_for(tmp_path, file, ["fedsim", "run"]):
            assert reading.read_manifest(tmp_path)["status"] == "running"
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            leave()
    else:
        leave()
    manifest = reading.read_manifest(tmp_path)
    assert (manifest["status"], manifest["cause"]) == (status, cause)
    assert manifest["started"] <= manifest["ended"]
    with pytest.raises(OutputError, match=f"the run is {status}"):
        reading.read(tmp_path)


def test_an_interrupted_run_with_checkpoints_says_how_to_go_on(tmp_path: Path, file: ScenarioFile) -> None:
    def leave() -> None:
        with RunFolder.open_for(tmp_path, file):
            (tmp_path / "checkpoints" / "server").mkdir(parents=True)
            (tmp_path / "checkpoints" / "server" / f"step-0000000020-{64 * '0'}.safetensors").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        leave()
    assert caught.value.__notes__ == [f"to go on from the last checkpoint: fedsim resume {tmp_path}"]


def test_the_manifest_says_what_the_run_was_made_with(tmp_path: Path, file: ScenarioFile) -> None:
    import numpy
    import torch

    RunFolder.open_for(tmp_path, file, ["fedsim", "run", "a b"], seeds=[1, 2])
    manifest = reading.read_manifest(tmp_path)
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["versions"]["numpy"] == numpy.__version__
    assert (manifest["digest"], manifest["threads"], manifest["seed"]) == (file.digest(), 1, 7)
    assert (manifest["command"], manifest["seeds"]) == (["fedsim", "run", "a b"], [1, 2])
    assert manifest["cpu"]["model"]


def test_a_folder_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, file: ScenarioFile) -> None:
    (tmp_path / "manifest.json").write_text('{"version": 3}')
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files but no run"):
        RunFolder.open_for(tmp_path, file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "notes.txt"]
    with pytest.raises(OutputError, match="a file; expected a folder"):
        RunFolder.open_for(tmp_path / "notes.txt", file)
    with pytest.raises(OutputError, match="cannot be written"):
        RunFolder.open_for(tmp_path / "notes.txt" / "below", file)


def test_another_run_is_refused_the_same_is_replaced(tmp_path: Path, file: ScenarioFile) -> None:
    RunFolder.open_for(tmp_path, file)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.safetensors").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    other = file.model_copy(update={"seed": 8})
    with pytest.raises(OutputError, match=f"experiment {file.digest()[:8]}, not of {other.digest()[:8]}"):
        RunFolder.open_for(tmp_path, other)
    with pytest.raises(OutputError, match="another run, of seeds 7"):
        RunFolder.open_for(tmp_path, file, seeds=[7, 8])
    RunFolder.open_for(tmp_path, file)
    assert not (tmp_path / "model").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"schema": 99}'])
def test_what_is_not_a_run_is_not_read(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(OutputError, match=r"manifest\.json"):
        reading.read(tmp_path)
    with pytest.raises(OutputError, match="no such folder"):
        reading.read(tmp_path / "missing")


def test_a_summary_of_another_version_is_not_read(played: tuple[Path, list[Arm]], tmp_path: Path) -> None:
    for name in ("manifest.json", "summary.json"):
        (tmp_path / name).write_text((played[0] / name).read_text().replace('"schema": 1', '"schema": 2'))
    (tmp_path / "manifest.json").write_text((played[0] / "manifest.json").read_text())
    with pytest.raises(OutputError, match="schema 2; expected schema 1"):
        reading.read(tmp_path)


def test_the_same_run_twice_does_not_differ(played: tuple[Path, list[Arm]], tmp_path: Path, file: ScenarioFile) -> None:
    play(tmp_path, file)
    found = diff.diff(reading.read(played[0]), reading.read(tmp_path))
    assert found.same_experiment
    assert found.same_results
    assert len(found.weights) == 6
    assert not found.settings
    assert found.lines()[-1] == "weights: equal to the bit at all 6 seats"


def test_what_differs_is_named(played: tuple[Path, list[Arm]], tmp_path: Path) -> None:
    changes = ["scenario.batch=30", "compare.noisy.seed=7", "compare.third={}"]
    play(tmp_path, config.read("baseline", [*SHORT[:3], *changes]))
    found = diff.diff(reading.read(played[0]), reading.read(tmp_path))
    assert not found.same_experiment
    assert not found.same_results
    assert found.alone == (["plain"], ["third"])
    assert ("scenario.batch", 32, 30) in [(c.where, c.one, c.other) for c in found.settings]
    assert {seat: equal for seat, equal in found.weights.items() if equal} == {}
    assert any(change.where == "bytes" for change in found.traffic)
    assert "  scenario.batch: 32 -> 30" in found.lines()


def test_numbers_that_are_not_finite_are_null(played: tuple[Path, list[Arm]], file: ScenarioFile) -> None:
    arms = played[1]
    row = {"step": 12, "test": {"log_loss": math.inf}}
    report = arms[0].reports[0]
    broken = type(report)(**{**vars(report), "rows": [row]})
    assert summarise(file, [Arm("plain", file, [broken], 1.0)])["task"] == {"log_loss": None}


def test_a_spread_says_mean_interval_count_and_method() -> None:
    values = [1.0, 2.0, 4.0]
    found = spread(values)
    sure = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((sure.low, sure.high))
    assert {key: found[key] for key in ("n", "method", "values")} == {"n": 3, "method": "student_t", "values": values}
    assert spread([1.0, None]) == {
        "mean": None, "low": None, "high": None, "n": 1, "method": "none", "values": [1.0, None],
    }  # fmt: skip
    one = spread([0.5])
    assert (one["mean"], one["low"], one["high"], one["method"]) == (0.5, None, None, "none")


def test_a_metric_that_is_right_or_wrong_in_a_run_has_the_interval_of_a_share() -> None:
    found = spread([1.0, 1.0, 1.0, 0.0, 1.0], "chose_the_best")
    sure = scipy.stats.binomtest(4, 5).proportion_ci(0.95)
    assert (found["low"], found["high"], found["method"]) == (sure.low, sure.high, "clopper_pearson")
    assert spread([1.0] * 5, "accuracy")["method"] == "student_t"


def test_a_difference_is_paired_by_seed() -> None:
    ones, others = [0.5, 0.7, 0.9], [0.4, 0.55, 0.8]
    found, sure = spread_difference(ones, others), scipy.stats.ttest_rel(ones, others).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((sure.low, sure.high))
    assert found["method"] == "paired_student_t"
    assert found["values"] == pytest.approx([0.1, 0.15, 0.1])
    assert spread_difference([1.0, None], [0.0, 0.0])["values"] == [1.0, None]
    shares = spread_difference([1.0, 0.0], [0.0, 0.0], "decided")
    assert (shares["mean"], shares["low"], shares["method"]) == (0.5, None, "none")


def test_intervals_of_an_earlier_version_are_made_anew_from_the_values() -> None:
    old = {"mean": 0.5, "low": 0.45, "high": 0.55, "values": [0.4, 0.6]}
    arm = {"task": {"accuracy": old, "decided": {**old, "values": [1.0, 0.0]}}, "price": {"accuracy": old}}
    found = rederive({"seeds": [7, 8], "arms": {"plain": arm}})["arms"]["plain"]
    assert found["task"]["accuracy"] == spread([0.4, 0.6])
    assert found["task"]["accuracy"]["low"] < 0
    assert found["task"]["decided"]["method"] == "clopper_pearson"
    assert found["price"]["accuracy"]["method"] == "paired_student_t"
    assert rederive(found) == found
    cell = {"figures": {"task": {**old, "values": [1.0, 1.0]}, "leakage": old}}
    swept = rederive({"task": "decided", "leakage": "auc", "cells": [cell]})["cells"][0]["figures"]
    assert (swept["task"]["method"], swept["leakage"]["method"]) == ("clopper_pearson", "student_t")
