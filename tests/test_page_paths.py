"""No page shows an absolute path of the user's: pages are made to be shared."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from terminal import fine

from fedsim.report import page, sweep_page
from fedsim.report.paths import PathFilter, is_absolute
from fedsim.report.reading import read

PERSON = "anna-b.example"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up home with a space in it, a table and a scenario file that names the table by its absolute path."""
    home = tmp_path / "Users" / PERSON / "my work"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home.parent))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 4)), rng.integers(0, 2, 80)
    lines = [
        "a,b,c,d,label",
        *(",".join([*(f"{v:.3f}" for v in row), str(label)]) for row, label in zip(x, y, strict=True)),
    ]
    (home / "patients of 2024.csv").write_text("\n".join(lines) + "\n")
    scenario = {
        "kind": "leakage",
        "data": {"kind": "csv", "path": str(home / "patients of 2024.csv"), "label": "label", "test": 20},
        "parties": {"north": {"columns": ["a", "b"]}, "east": {"columns": ["c", "d"]}},
        "embedding": 2,
        "batch": 10,
        "steps": 4,
    }
    trials = [{"attack": {"kind": "norm_scoring"}, "seat": "north", "victim": "server", "knows": ["rows"]}]
    (home / "study.yaml").write_text(yaml.safe_dump({"scenario": scenario, "trials": trials}))
    return home


def shared(*pages: Path) -> str:
    """What a reader of some pages finds in them, escaped or not."""
    texts = [path.read_text("utf-8") for path in pages]
    return "\n".join([*texts, *map(html.unescape, texts)])


def test_a_page_shows_names_of_files_in_place_of_absolute_paths(home: Path) -> None:
    out = home / "runs" / "first"
    fine("run", home / "study.yaml", "--out", out)
    text = shared(out / "report.html")
    assert PERSON not in text
    assert str(home.parent.parent) not in text
    assert "patients of 2024.csv" in text
    assert "fedsim run first/scenario.yaml" in text


def test_the_page_is_clean_wherever_the_folder_is_moved(home: Path) -> None:
    out = home / "runs" / "first"
    fine("run", home / "study.yaml", "--out", out)
    moved = home / "elsewhere" / "copy"
    shutil.copytree(out, moved)
    page.write([moved])
    assert PERSON not in shared(moved / "report.html")


def test_pages_over_seeds_and_of_comparisons_show_none(home: Path) -> None:
    seeds, one, other = home / "runs" / "seeds", home / "runs" / "one", home / "runs" / "other"
    fine("run", home / "study.yaml", "--seeds", "2", "--out", seeds)
    fine("run", home / "study.yaml", "--out", one)
    fine("run", home / "study.yaml", "--set", "scenario.steps=6", "--out", other)
    fine("report", one, other)
    assert PERSON not in shared(seeds / "report.html", seeds / "seed-0" / "report.html", one / "comparison.html")


def test_causes_of_failure_show_none(home: Path) -> None:
    out = home / "runs" / "first"
    fine("run", home / "study.yaml", "--out", out)
    manifest = json.loads((out / "manifest.json").read_text())
    cause = f"OutputError: {home}/a file: cannot be written; see /srv/data/{PERSON}/notes.txt"
    (out / "manifest.json").write_text(json.dumps({**manifest, "status": "failed", "cause": cause}))
    page.write([out])
    assert PERSON not in shared(out / "report.html")
    assert "notes.txt" in shared(out / "report.html")


def test_the_shown_scenario_is_still_yaml(home: Path) -> None:
    out = home / "runs" / "first"
    fine("run", home / "study.yaml", "--out", out)
    run = read(out)
    shown = yaml.safe_load(PathFilter([run]).scenario(run))
    assert shown["scenario"]["data"]["path"] == "patients of 2024.csv"
    whole = dict(run.scenario)
    whole["scenario"] = {**whole["scenario"], "data": shown["scenario"]["data"]}
    assert shown == whole


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("/home/anna/x.csv", True),
        ("C:\\Users\\anna\\x.csv", True),
        ("\\\\server\\share\\x.csv", True),
        ("runs/x", False),
        ("~/x", False),
        ("0:4", False),
        ("/", False),
    ],
)
def test_absolute_paths_are_told_from_relative_ones(text: str, absolute: bool) -> None:
    assert is_absolute(text) is absolute


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see /home/anna/deep/x.csv, line 3", "see x.csv, line 3"),
        ("C:\\Users\\anna\\x.csv: not there", "x.csv: not there"),
        ("https://arxiv.org/abs/2111.01124", "https://arxiv.org/abs/2111.01124"),
        ("5 m/s and/or 1/2", "5 m/s and/or 1/2"),
        ("--data=/home/anna/x.csv", "--data=x.csv"),
        ("runs/one/scenario.yaml", "runs/one/scenario.yaml"),
    ],
)
def test_paths_in_running_text_are_shortened(text: str, shown: str) -> None:
    assert PathFilter([]).hide(text) == shown


def test_a_page_of_a_sweep_shows_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = home / "runs" / "first"
    fine("run", home / "study.yaml", "--out", out)
    summary = json.loads((out / "summary.json").read_text())
    spread = {"mean": 0.5, "low": None, "high": None, "n": 1, "method": "none", "values": [0.5]}
    failed = [{"seed": 1, "run": "trials/b", "cause": f"DataError: {home}/patients of 2024.csv: not readable"}]
    cell = {"name": "a", "at": {"x": "1"}, "numbers": {"x": 1.0}, "seeds": [0], "runs": ["trials/a"], "failed": failed}
    cell |= {
        "left_out": 0,
        "figures": {"task": spread, "leakage": spread, "chance": spread},
        "results": None,
        "front": False,
    }
    top = {key: summary[key] for key in ("schema", "name", "scenario", "digest")}
    top |= {"level": 0.95, "task": "accuracy", "leakage": "", "axes": {"x": ["1"]}, "drawn": [], "attackers": []}
    (out / "summary.json").write_text(json.dumps({**top, "cells": [cell]}))
    sweep_page.write(out)
    assert PERSON not in shared(out / "report.html")
