"""From YAML and overrides to a frozen file: what its digest covers, how arms merge, where errors point."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import TABLE

from fedsim import config
from fedsim.errors import ConfigError
from fedsim.mistakes import Places
from fedsim.override import apply_override, merge, split_overrides


def read(tmp_path: Path, text: str = TABLE, *overrides: str) -> config.ScenarioFile:
    (tmp_path / "s.yaml").write_text(text)
    return config.read(str(tmp_path / "s.yaml"), overrides)


@pytest.mark.parametrize("change", ["name=other", "placement={a: {gpus: 1}}", "scenario.data.path=there.csv"])
def test_where_it_runs_is_no_part_of_the_experiment(tmp_path: Path, change: str) -> None:
    assert read(tmp_path, TABLE, change).digest() == read(tmp_path).digest()


@pytest.mark.parametrize(
    "change", ["seed=1", "threads=2", "scenario.batch=7", "scenario.data.label=z", "compare={x: {}}"]
)
def test_what_may_change_a_number_is(tmp_path: Path, change: str) -> None:
    assert read(tmp_path, TABLE, change).digest() != read(tmp_path).digest()


def test_defaults_written_out_are_the_same_experiment(tmp_path: Path) -> None:
    assert read(tmp_path, TABLE, "scenario.exchange=split", "trials=[]").digest() == read(tmp_path).digest()


def test_a_file_is_called_by_its_name_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert (read(tmp_path).name, read(tmp_path, TABLE, "name=x").name) == ("s", "x")
    assert list(read(tmp_path).arms()) == ["s"]


def test_shipped_files_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(config.shipped()) >= {"adult", "baseline", "labels", "leakage"}
    assert config.read("baseline").name == "baseline"


@pytest.mark.parametrize(
    ("base", "override", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"kind": "x", "b": 1}}, {"a": {"kind": "y"}}, {"a": {"kind": "y"}}),
        ({"a": {"kind": "x", "b": 1}}, {"a": {"kind": "x", "c": 2}}, {"a": {"kind": "x", "b": 1, "c": 2}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
    ],
)
def test_merging(base: object, override: object, merged: object) -> None:
    assert merge(base, override) == merged


def test_overrides_make_what_is_not_there(tmp_path: Path) -> None:
    data: dict[str, object] = {"a": {"b": [1, {"c": 2}]}, "n": None}
    for override in ("a.b.1.c=3", "x.y.z=[1, 2]", "n.m=1e-3", "a.text='1'"):
        apply_override(data, override)
    assert data == {"a": {"b": [1, {"c": 3}], "text": "1"}, "x": {"y": {"z": [1, 2]}}, "n": {"m": 0.001}}


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("", []),
        ("a=1; b=2 ;", ["a=1", "b=2"]),
        ("scenario.data.separator=;;", ["scenario.data.separator=;"]),
        ("scenario.data.separator=;;; seed=3", ["scenario.data.separator=;", "seed=3"]),
        ("a='x;;y';b={c: 1}", ["a='x;y'", "b={c: 1}"]),
    ],
)
def test_overrides_in_one_text(text: str, overrides: list[str]) -> None:
    assert split_overrides(text) == overrides


def test_places() -> None:
    lines = {(): 1, ("a",): 2, ("a", 0): 3, ("compare", "x", "a"): 7}
    places = Places("f.yaml", lines, ["b.c=1", "a.0=5"])
    assert places.of(("a", 1)) == "f.yaml:2"
    assert places.of(("a", 0, "deep")) == "--set a.0=5"
    assert places.of(("b",)) == "f.yaml:1"
    assert Places("f.yaml", lines, arm="x").of(("a", 0)) == "f.yaml:7: compare.x"
    assert Places("f.yaml", lines, arm="x").of(("z",)) == "f.yaml:1: compare.x"
    assert Places("nowhere").of(("a",)) == "nowhere"


def test_errors_of_an_arm_point_at_the_arm(tmp_path: Path) -> None:
    text = TABLE + "compare:\n  good: {}\n  bad:\n    links:\n      - {from: q}\n"
    with pytest.raises(ConfigError, match=r"s\.yaml:13: compare\.bad: links\.0\.from: no seat 'q'"):
        read(tmp_path, text)
    with pytest.raises(ConfigError, match=r"compare\.bad: scenario\.steps: expected at least 1, found 0"):
        read(tmp_path, TABLE + "compare: {bad: {scenario: {steps: 0}}}\n")


PROFILES = """
profiles:
  small: {scenario: {batch: 5}}
  large: {scenario: {batch: 9}, name: big}
  broken: {scenario: {batch: zero}}
"""


def test_a_profile_overrides_the_file_and_set_overrides_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(TABLE + PROFILES)
    found = [config.read(str(path), sets, name) for name, sets in (("", ()), ("large", ()), ("large", ("seed=4",)))]
    assert [(file.name, file.scenario.model_dump()["batch"]) for file in found] == [
        ("s-small", 5),
        ("big", 9),
        ("big", 9),
    ]
    assert found[2].seed == 4
    assert "profiles" not in found[0].resolved()


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (TABLE + PROFILES, "smal", "no profile 'smal'; did you mean 'small'?"),
        (TABLE, "small", "the file has no profiles"),
        (TABLE + PROFILES, "broken", r"s.yaml:\d+: scenario.batch"),
    ],
)
def test_a_profile_that_does_not_exist_or_does_not_fit_is_refused(
    tmp_path: Path, text: str, name: str, says: str
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says) as refused:
        config.read(str(tmp_path / "s.yaml"), (), name)
    if name == "broken":
        line = (TABLE + PROFILES).split("\n").index("  broken: {scenario: {batch: zero}}") + 1
        assert f"s.yaml:{line}:" in str(refused.value)


def test_choosing_a_runtime_keeps_its_settings_and_set_goes_over_it(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(TABLE + "runtime: {kind: ray, gpus: 2}\n")
    same, other = (config.read(str(path), (), "", kind).runtime for kind in ("ray", "local"))
    assert same.model_dump()["gpus"] == 2
    assert other.kind() == "local"
    path.write_text(TABLE)
    assert config.read(str(path), ["runtime.address=here:2"], "", "ray").runtime.model_dump()["address"] == "here:2"
