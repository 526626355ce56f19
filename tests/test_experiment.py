"""Experiments as a library: arms in order, trying out seats before a folder is made, what is left when a run fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from terminal import TABLE, write_table

from fedsim import config, experiment
from fedsim.config import ScenarioFile
from fedsim.errors import DataError, OutputError
from fedsim.net import Watch
from fedsim.report import reading
from fedsim.report.diff import diff


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScenarioFile:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE + "compare: {one: {}, two: {seed: 4}, three: {scenario: {batch: 7}}}\n")
    return config.read("s.yaml")


def test_arms_are_told_and_played_in_order(file: ScenarioFile) -> None:
    seen: list[tuple[str, int]] = []
    rows: list[Mapping[str, Any]] = []

    def started(title: str, arm: ScenarioFile) -> Watch:
        seen.append((title, arm.seed))
        return lambda role, row: rows.append(row)

    path = experiment.run(file, started=started)
    assert path == Path("runs") / f"s-{file.digest()[:8]}"
    assert seen == [("one", 0), ("two", 4), ("three", 0)]
    assert [row["step"] for row in rows if "loss" in row] == [*range(6)] * 3
    assert reading.read_manifest(path)["status"] == "complete"


def test_trying_out_seats_changes_no_result(file: ScenarioFile, monkeypatch: pytest.MonkeyPatch) -> None:
    first = reading.read(experiment.run(file)).summary["weights_sha256"]
    monkeypatch.setattr(experiment, "rehearse", lambda file: None)
    assert reading.read(experiment.run(file)).summary["weights_sha256"] == first


def test_what_is_wrong_with_the_last_arm_shows_before_the_first_is_played(file: ScenarioFile) -> None:
    wrong = config.validate(
        {**file.resolved(), "compare": {"a": {}, "b": {"scenario": {"data": {"path": "x"}}}}}, "t", {}
    )
    with pytest.raises(DataError, match=r"^compare\.b: no data file 'x'"):
        experiment.run(wrong)
    assert not Path("runs").exists()


def test_each_scenario_is_tried_out_once(file: ScenarioFile, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr(experiment, "build", lambda file, name, arm: built.append(name))
    links = [{"message": "Gradient", "sender": [{"kind": "clip", "norm": 1}]}]
    arms = {"plain": {}, "clipped": {"links": links}, "other seed": {"seed": 5}}
    experiment.rehearse(config.validate({**file.resolved(), "compare": arms}, "t", {}))
    assert built == ["plain", "other seed"]


def test_a_failure_is_written_down(file: ScenarioFile) -> None:
    def started(title: str, arm: ScenarioFile) -> Watch:
        def watch(role: str, row: Mapping[str, Any]) -> None:
            if title == "two" and row.get("step") == 3:
                raise RuntimeError("the moon fell\ndown")

        return watch

    with pytest.raises(RuntimeError, match="the moon"):
        experiment.run(file, Path("out"), started=started)
    there = json.loads(Path("out/manifest.json").read_text())
    assert (there["status"], there["cause"]) == ("failed", "RuntimeError: the moon fell down")
    rows = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert {row["arm"] for row in rows} == {"one", "two"}
    experiment.run(file, Path("out"))
    assert reading.read_manifest(Path("out"))["status"] == "complete"


def test_a_seed_that_fails_marks_its_folder_and_the_whole(file: ScenarioFile) -> None:
    def started(title: str, arm: ScenarioFile) -> Watch:
        if title.startswith("seed 1"):
            raise RuntimeError("no")
        return lambda role, row: None

    with pytest.raises(RuntimeError):
        experiment.run_seeds(file, 3, Path("out"), started=started)
    status = {path.parent.name: json.loads(path.read_text())["status"] for path in Path("out").rglob("manifest.json")}
    assert status == {"out": "failed", "seed-0": "complete", "seed-1": "failed"}
    with pytest.raises(OutputError, match="has no results; the run is failed"):
        reading.read(Path("out"))


def test_the_same_settings_on_other_data_are_another_run(file: ScenarioFile, tmp_path: Path) -> None:
    path = experiment.run(file)
    before = reading.read(path)
    table = tmp_path / "table.csv"
    table.write_text(table.read_text() + table.read_text().splitlines()[-1] + "\n")
    with pytest.raises(OutputError, match="of the same settings on other data"):
        experiment.run(file)
    other = reading.read(experiment.run(file, Path("other")))
    assert other.manifest["digest"] == before.manifest["digest"]
    assert diff(before, other).lines()[0].startswith(f"{path} -> other: different experiments")


def test_a_folder_that_another_process_writes_to_is_left_alone(file: ScenarioFile) -> None:
    path = experiment.run(file)
    manifest = reading.read_manifest(path)
    manifest |= {"status": "running", "process": manifest["process"] | {"pid": os.getppid()}}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(OutputError, match=f"process {os.getppid()} is writing a run there"):
        experiment.run(file)
    manifest["process"]["pid"] = 2**22 + 1  # beyond the largest there can be
    (path / "manifest.json").write_text(json.dumps(manifest))
    experiment.run(file)
    assert reading.read_manifest(path)["status"] == "complete"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_has_ended_unnoticed_writes_no_more(file: ScenarioFile) -> None:
    path = experiment.run(file)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        os.kill(ended.pid, 0)  # it is still listed
        manifest = reading.read_manifest(path)
        manifest |= {"status": "running", "process": manifest["process"] | {"pid": ended.pid}}
        (path / "manifest.json").write_text(json.dumps(manifest))
        experiment.run(file)
    assert reading.read_manifest(path)["status"] == "complete"
