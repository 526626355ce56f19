"""Where relative paths of data start from: the scenario file's own folder, the current one, `FEDSIM_DATA`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from terminal import TABLE, fine, refused, write_table

from fedsim import config
from fedsim.runtime._seat import Belongings

ROWS = {"own": 60, "here": 70, "data": 80}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study in a folder, the current folder beside it, and a folder of data; each could have the table."""
    for name in ("study", "here", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "study/s.yaml").write_text(TABLE)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path / "data"))
    return tmp_path


def put_tables(place: Path, *folders: str) -> None:
    for folder, rows in (("study", "own"), ("here", "here"), ("data", "data")):
        if folder in folders:
            write_table(place / folder / "table.csv", ROWS[rows])


def count(source: str, *sets: str) -> int:
    data = config.read(source, sets).scenario.data  # type: ignore[attr-defined]
    return int(data.count())


@pytest.mark.parametrize(
    ("folders", "rows"),
    [
        (("study", "here", "data"), "own"),
        (("here", "data"), "here"),
        (("data",), "data"),
        (("study", "data"), "own"),
        (("study",), "own"),
    ],
)
def test_the_own_folder_comes_first_then_the_current_one(place: Path, folders: tuple[str, ...], rows: str) -> None:
    put_tables(place, *folders)
    assert count("../study/s.yaml") == ROWS[rows]
    assert count(str(place / "study/s.yaml")) == ROWS[rows]


def test_where_there_is_no_table_all_places_are_named(place: Path) -> None:
    line = refused("run", "../study/s.yaml")
    looked = [str(place / "study/table.csv"), str(place / "here/table.csv"), str(place / "data/table.csv")]
    assert f"no data file 'table.csv'; looked at: {', '.join(looked)}" in line


def test_paths_lead_out_of_the_own_folder(place: Path) -> None:
    write_table(place / "table.csv", 90)
    assert count("../study/s.yaml", "scenario.data.path=../table.csv") == 90


def test_the_file_can_name_another_folder(place: Path) -> None:
    write_table(place / "table.csv", 90)
    put_tables(place, "study", "here")
    (place / "study/s.yaml").write_text(TABLE + "folder: ..\n")
    assert count("../study/s.yaml") == 90
    (place / "study/s.yaml").write_text(TABLE + f"folder: {place}/here\n")
    assert count("../study/s.yaml") == 70
    (place / "study/s.yaml").write_text(TABLE + "folder: 3\n")
    assert "s.yaml:9: folder: expected text, found 3" in refused("check", "../study/s.yaml")


def test_a_file_that_is_named_on_the_command_line_is_that_of_the_current_folder(place: Path) -> None:
    write_table(place / "study/more.csv", 90)
    write_table(place / "here/more.csv", 95)
    assert count("../study/s.yaml", "scenario.data.path=more.csv") == 95
    (place / "here/more.csv").unlink()
    assert count("../study/s.yaml", "scenario.data.path=more.csv") == 90


def test_where_the_data_lies_is_no_part_of_the_experiment(place: Path) -> None:
    put_tables(place, "study")
    shutil.copytree(place / "study", place / "copy")
    here, there = config.read("../study/s.yaml"), config.read("../copy/s.yaml")
    assert here.folder != there.folder
    assert (here.digest(), here.accord()) == (there.digest(), there.accord())
    assert here.scenario.data_digest() == there.scenario.data_digest() != ""
    plain = config.validate({"name": "s", **yaml.safe_load(TABLE)}, "s", {})
    assert plain.digest() == here.digest()


def test_a_run_is_played_again_resumed_and_asked_from_anywhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_tables(place, "study")
    monkeypatch.delenv("FEDSIM_DATA")
    fine("run", "../study/s.yaml", "--out", "one", "--set", "checkpoint={every: 2}")
    monkeypatch.chdir(place)
    fine("run", "here/one/scenario.yaml", "--out", "two")
    weights = [json.loads(Path(f"{run}/summary.json").read_text())["weights_sha256"] for run in ("here/one", "two")]
    assert weights[0] == weights[1]
    manifest = json.loads(Path("two/manifest.json").read_text())
    Path("two/manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    fine("resume", "two")
    assert json.loads(Path("two/manifest.json").read_text())["status"] == "complete"
    write_table(place / "new.csv", 12)
    write_table(place / "study/new.csv", 15)
    assert len(fine("predict", "two", "new.csv").splitlines()) == 13  # not the other one


def test_each_process_finds_the_table_and_pages_do_not_say_where(place: Path) -> None:
    put_tables(place, "study")
    fine("run", "../study/s.yaml", "--out", "one", "--runtime", "processes")
    fine("run", "../study/s.yaml", "--out", "two", "--seeds", "2")
    for page in Path().rglob("*.html"):
        assert str(place) not in page.read_text("utf-8")
        assert "folder: " not in page.read_text("utf-8")
    assert f"folder: {json.dumps(str(place / 'study'))}" in Path("one/scenario.yaml").read_text("utf-8")
    assert config.read("one/scenario.yaml").digest() == config.read("../study/s.yaml").digest()


def test_a_sweep_finds_the_table(place: Path) -> None:
    put_tables(place, "study")
    (place / "study/s.yaml").write_text(TABLE + "sweep: {grid: {scenario.batch: [4, 8]}}\n")
    for _, file in config.read("../study/s.yaml").cells():
        assert file.scenario.data_digest()
        assert file.folder == str(place / "study")
    assert "'folder' cannot be varied" in refused("check", "../study/s.yaml", "--set", "sweep.grid={folder: [a, b]}")


def test_tables_of_seats_and_pairs_of_archives_lie_there_too(place: Path) -> None:
    (place / "study/a.csv").write_text("id,u,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(40)))
    (place / "study/b.csv").write_text("id,w\n" + "".join(f"{i},{i % 5}\n" for i in range(40)))
    (place / "study/t.yaml").write_text(
        "scenario:\n  kind: baseline\n  data: {kind: tables, id: id, label: y}\n  labels: a\n  batch: 4\n  steps: 2\n"
        "  parties: {a: {columns: u}, b: {columns: w}}\n"
    )
    fine("run", "../study/t.yaml", "--out", "tables")
    rng = np.random.default_rng(0)
    images = {f"x_{part}": rng.integers(0, 255, (30, 8, 8), dtype=np.uint8) for part in ("train", "test")}
    labels = {f"y_{part}": np.arange(30) % 2 for part in ("train", "test")}
    np.savez(place / "study/one.npz", **images, **labels)
    np.savez(place / "study/two.npz", **images, **labels)
    pair = "{kind: image_pair, source: one.npz, target: two.npz, target_scale: 255}"
    file = config.read("../study/s.yaml", ["scenario.kind=uda_poisoning", f"scenario.data={pair}"])
    assert file.scenario.data.count() == 120  # type: ignore[attr-defined]
    assert file.scenario.data_digest()


def test_weights_that_are_taken_up_lie_beside_the_file(place: Path) -> None:
    put_tables(place, "study")
    fine("run", "../study/s.yaml", "--out", "../study/runs/one")
    (place / "study/again.yaml").write_text(TABLE + "  trained: {run: runs/one}\n")
    fine("run", "../study/again.yaml", "--out", "two")


def test_a_seat_with_data_of_its_own_does_not_look_beside_the_file(place: Path) -> None:
    put_tables(place, "study", "data")
    file = config.read("../study/s.yaml")
    own, _ = Belongings(data=str(place / "data"), simulate=True).at(file, "a")
    assert own.scenario.data.count() == ROWS["data"]  # type: ignore[attr-defined]
    write_table(place / "here/mine.csv", 90)
    write_table(place / "study/mine.csv", 95)
    mine, _ = Belongings(data="mine.csv", simulate=True).at(file, "a")
    assert mine.scenario.data.count() == 90  # type: ignore[attr-defined]
    assert own.digest() == mine.digest() == file.digest()
    assert file.scenario.data.count() == ROWS["own"]  # type: ignore[attr-defined]


def test_a_scenario_that_ships_has_no_folder(place: Path) -> None:
    assert config.read("labels").folder == ""


def test_a_process_of_its_own_runs_a_study_from_elsewhere(place: Path) -> None:
    put_tables(place, "study")
    environment = {name: value for name, value in os.environ.items() if name != "FEDSIM_DATA"}
    program = Path(sys.executable).with_name("fedsim")
    words = [program, "run", place / "study/s.yaml", "--out", "one"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=place / "here", check=False)
    assert done.returncode == 0, done.stderr
