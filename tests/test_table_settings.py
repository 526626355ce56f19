"""How a scenario says how its tables are written and which columns are whose, in a file and with ``--set``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from own_tables import people, played, scenario, write
from terminal import fine, refused

from fedsim import config
from fedsim.errors import ConfigError, DataError
from fedsim.parties.cut import TablePart, TableSchema, cut
from fedsim.parties.data import _csv_records

HEAD = """scenario:
  kind: baseline
  data: {kind: csv, path: t.csv, label: y, test: 4}
  parties:
    north: {columns: "a, b"}
    east: {columns: "c"}
  steps: 2
  batch: 4
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Twelve rows; the current folder holds a scenario over ``t.csv``."""
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(HEAD)
    draw = np.random.default_rng(0)
    found = pd.DataFrame({name: draw.normal(size=12).round(3) for name in "abc"})
    return found.assign(y=["yes", "no"] * 6)


def read(*changes: str) -> config.ScenarioFile:
    return config.read("s.yaml", changes)


def run(*changes: str) -> dict[str, str]:
    return played(read(*changes), {})


# -- how the file is written


@pytest.mark.parametrize(
    ("separator", "spelling"),
    [
        (";", ";"),
        ("|", "|"),
        ("|", "'|'"),
        ("\t", "\t"),
        ("\t", "\\t"),
        ("\t", '"\\t"'),
        ("\t", "tab"),
        (" ", " "),
        (",", ","),
        (":", ":"),
        ("#", "#"),
        ("¦", "¦"),
    ],
)
def test_a_separator_can_be_set(table: pd.DataFrame, separator: str, spelling: str) -> None:
    table.to_csv("t.csv", index=False)
    expected = run()
    table.to_csv("t.csv", index=False, sep=separator)
    assert run(f"scenario.data.separator={spelling}") == expected


@pytest.mark.parametrize("separator", ["", "''", "ab", '"', "'\"'", '"\\n"', "[a]", "1.5", "~"])
def test_what_is_no_separator_is_refused(table: pd.DataFrame, separator: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(f"scenario.data.separator={separator}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arrow", [True, False])
def test_a_large_file_gives_the_same_numbers(table: pd.DataFrame, arrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    table.assign(c=["red", "green", "a, b"] * 4).to_csv("t.csv", index=False)
    expected = run()
    monkeypatch.setattr(_csv_records, "LARGE_BYTES", -1)
    if not arrow:
        monkeypatch.setattr(_csv_records, "read_with_arrow", lambda *_: None)
    assert run() == expected


def test_an_encoding_can_be_set(table: pd.DataFrame) -> None:
    table["c"] = ["für", "wider"] * 6
    table.to_csv("t.csv", index=False)
    expected = run()
    table.to_csv("t.csv", index=False, encoding="cp1252")
    assert run("scenario.data.encoding=cp1252") == expected
    with pytest.raises(DataError, match="set 'encoding: cp1252'"):
        run()


@pytest.mark.parametrize("encoding", ["cp9999", "base64", "rot13", "zip", "'a\\0b'"])
def test_what_is_no_encoding_is_refused(table: pd.DataFrame, encoding: str) -> None:
    with pytest.raises(ConfigError, match=r"encoding: .*known are, for instance, utf-8, cp1252, latin-1"):
        read(f"scenario.data.encoding={encoding}")


def test_a_file_without_a_header_line_is_named(table: pd.DataFrame) -> None:
    table.to_csv("t.csv", index=False)
    expected = run()
    table.to_csv("t.csv", index=False, header=False)
    assert run("scenario.data.names=[a, b, c, y]") == expected
    with pytest.raises(DataError, match="no column 'y'; if its first line is a row of data and no header line, name"):
        run()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("[]", "expected the names of all columns"),
        ("[a, b, ' a', y]", "two columns named 'a': column 1 and column 3"),
        ("[a, yes, c, y]", "YAML reads yes, on or true there: put the name in quotes"),
        ("[a, 2020-01-02, c, y]", "YAML reads the date 2020-01-02 there"),
    ],
)
def test_names_that_cannot_be_are_refused(table: pd.DataFrame, names: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(f"scenario.data.names={names}")
    assert message in str(error.value)


def test_names_in_the_scenario_need_no_care_for_spaces_and_forms(table: pd.DataFrame) -> None:
    table.to_csv("t.csv", index=False)
    expected = run()
    table.columns = pd.Index([" a", "b ", "c", " y "])
    table.to_csv("t.csv", index=False)
    assert run("scenario.data.label=' y'", "scenario.parties.east.columns=['c ']") == expected


def test_tables_are_written_as_the_settings_say(tmp_path: Path) -> None:
    expected = played(scenario(write(tmp_path)), {})
    paths = {seat: tmp_path / "other" / f"{seat}.csv" for seat in ("server", "north", "east")}
    (tmp_path / "other").mkdir()
    for seat, path in write(tmp_path / "again").items():
        own = pd.read_csv(path, dtype=str)
        own.to_csv(paths[seat], index=False, sep="|", encoding="utf-16-le", header=seat != "north")
    data = {
        "kind": "tables",
        "id": "number",
        "label": "ill",
        "test": 0.25,
        "separator": "|",
        "encoding": "utf-16-le",
        "files": {seat: str(path) for seat, path in paths.items()},
        "names": {"north": ["number", *[name for name in people().columns if name in ("age", "sex")]]},
    }
    assert played(scenario(data=data), {}) == expected


@pytest.mark.parametrize("setting", ["files={nroth: x.csv}", "names={nroth: [number, age]}"])
def test_a_seat_that_is_not_there_has_no_table(tmp_path: Path, setting: str) -> None:
    text = """scenario:
  kind: baseline
  data: {kind: tables, id: number, label: ill}
  parties: {north: {columns: age}, east: {columns: pulse}}
"""
    (tmp_path / "s.yaml").write_text(text)
    config.read(str(tmp_path / "s.yaml"), ["scenario.data.files={north: a.csv, server: b.csv}"])
    with pytest.raises(ConfigError) as error:
        config.read(str(tmp_path / "s.yaml"), [f"scenario.data.{setting}"])
    assert f"data.{setting[:5]}: there is no seat 'nroth'; did you mean 'north'?" in str(error.value)


# -- which columns are whose

NUMBERS = TableSchema(("0", "1", "12", "620"), {"y": "the label"})
YEARS = TableSchema(("age", "2019", "2020", "pay"))
PLAIN = TableSchema(tuple(f"c{k}" for k in range(30)), {"y": "the label"})


@pytest.mark.parametrize(
    ("schema", "yaml", "expected"),
    [
        (PLAIN, "3", ["c3"]),
        (PLAIN, "[1, 2]", ["c1", "c2"]),
        (PLAIN, "'1, 2'", ["c1", "c2"]),
        (PLAIN, '["0:2", 12]', ["c0", "c1", "c12"]),
        (PLAIN, "[0:2, 12]", ["c0", "c1", "c12"]),
        (PLAIN, "10:12", ["c10", "c11"]),
        (PLAIN, "[10:12, c0]", ["c10", "c11", "c0"]),
        (NUMBERS, "620", ["620"]),
        (NUMBERS, "[1, 12]", ["1", "12"]),
        (NUMBERS, "[0:2, 620]", ["0", "1", "620"]),
        (YEARS, "[2019, pay]", ["2019", "pay"]),
        (YEARS, "2019:pay", ["2019", "2020", "pay"]),
        (YEARS, "1:3", ["2019", "2020"]),
        (TableSchema(("0.5", "1.5", "-2", "007")), "[0.5, -2, 007]", ["0.5", "-2", "007"]),
    ],
)
def test_bare_numbers_and_ranges_are_columns(
    table: pd.DataFrame, schema: TableSchema, yaml: str, expected: list[str]
) -> None:
    Path("s.yaml").write_text(HEAD.replace('{columns: "a, b"}', f"\n      columns: {yaml}"))
    found: Any = read().model_dump()["scenario"]["parties"]["north"]["columns"]
    rest = [name for name in schema.columns if name not in expected]
    columns = found if isinstance(found, str) else list(found)
    assert cut(schema, {"north": columns, "east": rest})["north"] == TablePart(tuple(expected))


@pytest.mark.parametrize(
    ("schema", "spec", "message"),
    [
        (PLAIN, "30", "there is no column at position 30; allowed: 0 to 29"),
        (YEARS, "0", "the data has no column '0'"),
        (NUMBERS, "2", "the data has no column '2'"),
        (PLAIN, "-1", "the data has no column '-1'"),
    ],
)
def test_numbers_that_are_no_column_are_refused(schema: TableSchema, spec: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        cut(schema, {"a": spec})
    assert message in str(error.value)


@pytest.mark.parametrize("columns", ["[yes]", "~", "2020-01-02", "[[a]]"])
def test_what_yaml_reads_as_no_name_is_refused(table: pd.DataFrame, columns: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(f"scenario.parties.north.columns={columns}")
    assert "scenario.parties.north.columns" in str(error.value)


def test_dropped_columns_may_be_bare_numbers(table: pd.DataFrame) -> None:
    table.to_csv("t.csv", index=False)
    expected = run("scenario.parties.north.columns=b", "scenario.data.drop=[a]")
    assert run("scenario.parties.north.columns=b", "scenario.data.drop=[0]") == expected
    table["Unnamed: 4"] = ""
    table.to_csv("t.csv", index=False, header=[*"abcy", ""])
    assert run("scenario.parties.north.columns=b", "scenario.data.drop=[a, 'Unnamed: 4']") == expected


def test_a_cut_of_many_columns_takes_no_time_that_grows_with_their_square() -> None:
    """Seconds with a search through all names for each, an hour of them with 200,000."""
    names = tuple(f"gene {k}" for k in range(200_000))
    half = len(names) // 2
    parts = cut(TableSchema(names), {"a": list(names[:half]), "b": f"gene {half}:gene {len(names) - 2}"}, [names[-1]])
    assert parts["a"] == TablePart(names[:half])
    assert parts["b"] == TablePart(names[half:-1])


# -- the command line


def test_the_terminal_tells_where_a_row_does_not_fit(table: pd.DataFrame) -> None:
    text = table.to_csv(index=False).splitlines()
    cells = text[5].split(",")
    Path("t.csv").write_text("\n".join([*text[:5], f"{cells[0]},1,234,{cells[2]},{cells[3]}", *text[6:]]) + "\n")
    found = refused("check", "s.yaml")
    assert "t.csv, line 6: 5 cells, but the header line names 4 columns; cells 2 and 3 look like one number" in found
    table.to_csv("t.csv", index=False, sep="|")
    assert "set 'separator'" in refused("check", "s.yaml")
    assert "nothing was trained" in fine("check", "s.yaml", "--set", "scenario.data.separator=|")
