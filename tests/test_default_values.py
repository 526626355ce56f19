"""Overrides that change a part of a setting which the file leaves to its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from terminal import TABLE, fine, refused, write_table

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.default_values import find_default, merge_over

BARE = TABLE.replace("  bottom: {kind: mlp, hidden: [8]}\n", "")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    (tmp_path / "bare.yaml").write_text(BARE)
    return tmp_path


def at(file: ScenarioFile, path: str) -> Any:
    value: Any = file.resolved()
    for part in path.split("."):
        value = value[int(part) if part.isdecimal() else part]
    return value


MLP = {"kind": "mlp", "hidden": [64], "dropout": 0.0, "bias": True}


@pytest.mark.parametrize(
    ("source", "sets", "path", "value"),
    [
        # a model by default
        ("bare.yaml", ["scenario.bottom.dropout=0.5"], "scenario.bottom", {**MLP, "dropout": 0.5}),
        ("bare.yaml", ["scenario.bottom.hidden=[3]"], "scenario.bottom", {**MLP, "hidden": [3]}),
        ("bare.yaml", ["scenario.bottom.hidden.0=3"], "scenario.bottom", {**MLP, "hidden": [3]}),
        ("bare.yaml", ["scenario.bottom.kind=linear"], "scenario.bottom.kind", "linear"),
        (
            "s.yaml",
            ["scenario.top.bias=false"],
            "scenario.top",
            {"kind": "linear", "activation": "none", "bias": False},
        ),
        # a party's own, which is by default that of all
        ("bare.yaml", ["scenario.parties.a.bottom.dropout=0.5"], "scenario.parties.a.bottom", {**MLP, "dropout": 0.5}),
        ("s.yaml", ["scenario.parties.a.bottom.dropout=0.5"], "scenario.parties.a.bottom.hidden", [8]),
        ("s.yaml", ["scenario.parties.a.bottom.hidden.0=3"], "scenario.parties.a.bottom", {**MLP, "hidden": [3]}),
        ("s.yaml", ["scenario.parties.a.bottom.hidden.0=3"], "scenario.bottom.hidden", [8]),
        ("s.yaml", ["scenario.parties.a.bottom.dropout=0.5"], "scenario.parties.b.bottom", None),
        ("s.yaml", ["scenario.parties.a.bottom.kind=linear"], "scenario.parties.a.bottom.kind", "linear"),
        (
            "bare.yaml",
            ["scenario.bottom.dropout=0.25", "scenario.parties.b.bottom.hidden=[5]"],
            "scenario.parties.b.bottom",
            {**MLP, "dropout": 0.25, "hidden": [5]},
        ),
        # a runtime, plain settings, settings in a list, what is off by default
        ("s.yaml", ["runtime.verbose=true"], "runtime", {"kind": "local", "verbose": True}),
        ("s.yaml", ["scenario.optimiser.lr=0.5"], "scenario.optimiser.kind", "adam"),
        ("s.yaml", ["scenario.worth.rows=5"], "scenario.worth.rows", 5),
        ("s.yaml", ["missing.policy=drop"], "missing.policy", "drop"),
        ("s.yaml", ["placement.a.gpus=1"], "placement", {"a": {"gpus": 1.0}}),
        ("s.yaml", ["checkpoint.every=2"], "checkpoint.every", 2),
    ],
)
def test_a_part_of_a_default_is_set(source: str, sets: list[str], path: str, value: object) -> None:
    assert at(config.read(source, sets), path) == value


def test_nested_defaults_keep_their_own_settings() -> None:
    """The discriminator of a learner by default, and an optimiser whose default is not that of its class."""
    file = config.read("uda_poisoning", ["scenario.learner={kind: cdan}", "scenario.learner.discriminator.dropout=0.5"])
    assert at(file, "scenario.learner.discriminator") == {**MLP, "hidden": [32], "dropout": 0.5}
    values = {"scenario": {"kind": "contrastive"}}
    assert find_default(ScenarioFile, values, ("scenario", "finetuning", "optimiser")) is None  # nothing is written yet
    values = {"scenario": {"kind": "contrastive", "finetuning": {}}}
    assert find_default(ScenarioFile, values, ("scenario", "finetuning", "optimiser")) == {"lr": 0.01}


@pytest.mark.parametrize("path", ["nothing", "scenario.nothing", "scenario.bottom.nothing", "scenario.data.path"])
def test_what_has_no_default(path: str) -> None:
    values = {"scenario": {"kind": "baseline", "data": {"kind": "csv"}, "bottom": {"kind": "moon"}}}
    assert find_default(ScenarioFile, values, tuple(path.split("."))) is None


def test_a_profile_changes_a_part_of_a_default(here: Path) -> None:
    over = "{scenario: {bottom: {dropout: 0.5}, parties: {b: {bottom: {hidden: [5]}}}}}"
    (here / "s.yaml").write_text(BARE + f"profiles: {{wet: {over}}}\n")
    file = config.read("s.yaml", (), "wet")
    assert at(file, "scenario.bottom") == {**MLP, "dropout": 0.5}
    assert at(file, "scenario.parties.b.bottom") == {**MLP, "dropout": 0.5, "hidden": [5]}


def test_an_arm_and_a_sweep_change_a_part_of_what_a_party_inherits(here: Path) -> None:
    arm = "compare: {x: {}, y: {scenario: {parties: {a: {bottom: {dropout: 0.5}}}}}}\n"
    (here / "s.yaml").write_text(TABLE + arm)
    arms = config.read("s.yaml").arms()
    assert at(arms["x"], "scenario.parties.a.bottom") is None
    assert at(arms["y"], "scenario.parties.a.bottom") == {**MLP, "hidden": [8], "dropout": 0.5}
    (here / "s.yaml").write_text(TABLE + "sweep: {grid: {scenario.parties.a.bottom.dropout: [0.1, 0.2]}}\n")
    found = [at(file, "scenario.parties.a.bottom") for _, file in config.read("s.yaml").cells()]
    assert found == [{**MLP, "hidden": [8], "dropout": share} for share in (0.1, 0.2)]
    options = "sweep: {grid: {wet: {dry: {}, wet: {scenario: {parties: {a: {bottom: {dropout: 0.5}}}}}}}}\n"
    (here / "s.yaml").write_text(TABLE + options)
    found = [at(file, "scenario.parties.a.bottom") for _, file in config.read("s.yaml").cells()]
    assert found == [None, {**MLP, "hidden": [8], "dropout": 0.5}]


def test_a_kind_that_is_given_drops_what_was_there_by_default() -> None:
    values = {"scenario": {"kind": "baseline"}}
    merged = merge_over(ScenarioFile, values, {"scenario": {"bottom": {"kind": "linear"}}})
    assert merged["scenario"]["bottom"] == {"kind": "linear"}
    assert values == {"scenario": {"kind": "baseline"}}


def test_a_part_of_a_default_is_trained_with(here: Path) -> None:
    fine("run", "bare.yaml", "--out", "one", "--set", "scenario.bottom.dropout=0.5")
    assert "dropout: 0.5" in (here / "one/scenario.yaml").read_text()


def test_what_is_wrong_in_a_part_of_a_default_is_refused() -> None:
    assert "unknown key 'dropuot'; did you mean 'dropout'?" in refused(
        "check", "bare.yaml", "--set", "scenario.bottom.dropuot=1"
    )
    assert "'9' leads nowhere; there is a list of 1" in refused(
        "check", "bare.yaml", "--set", "scenario.bottom.hidden.9=1"
    )
    assert "there is no list 'links'; set it whole: links=[...]" in refused(
        "check", "bare.yaml", "--set", "links.0.from=a"
    )
    Path("bare.yaml").write_text(BARE + "profiles: {x: 3}\n")
    assert "profiles.x: expected a mapping that overrides this file; found 3" in refused("check", "bare.yaml")
