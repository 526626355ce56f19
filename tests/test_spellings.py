"""How people spell values, in every format: each is read right, in training and of new rows, or refused in one line."""

from __future__ import annotations

import decimal
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsim import config
from fedsim.errors import DataError
from fedsim.experiment import build
from fedsim.parties.data import Data
from fedsim.parties.data._raw import RawTable
from fedsim.parties.data._spelling import ParseRules, TextColumn, number_parser, plain_numbers
from fedsim.parties.encode import Categorical, Cyclic, Encoder, Numeric
from fedsim.parties.features import FeatureParty
from fedsim.parties.predict import QueriedParty
from fedsim.plan import NewRows
from fedsim.plugins import load
from fedsim.seeding import Rng

ROWS = 40
KINDS = ("csv", "parquet", "npz", "tables")
NAN = math.nan
ENDINGS = {
    "tables": {"a": "csv", "b": "parquet", "server": "csv"},
    "npz": {"a": "npz", "b": "npz", "server": "npz"},
}
"""By kind, the files of the seats."""


@dataclass(frozen=True)
class Spelling:
    """Cells as people write them, and what they mean.

    Attributes:
        cells: repeated until there are `ROWS` of them.
        values: what each means, a number or a word; none: it is refused.
        settings: of the data.
        refused: what the error says of the training data.
        good: cells of the kind that was meant, to train on before the refused ones come as new rows.
        refused_new: what the error says of new rows.
    """

    cells: Sequence[str]
    values: Sequence[float | str] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    good: Sequence[str] = ("1", "2", "4")
    refused_new: str = "must be numeric; found"


def unlike(k: int) -> str:
    return f"case-{7919 * k % 10007:04}"


SPELLINGS: dict[str, Spelling] = {
    "whole numbers": Spelling(["1", "2", "40"], [1, 2, 40]),
    "fractions": Spelling(["1.5", "-2.25", "0.1"], [1.5, -2.25, 0.1]),
    "spaces around": Spelling([" 1", "2 ", " 4 "], [1, 2, 4]),
    "no-break spaces around": Spelling(["\u00a01", "2\u00a0", "4"], [1, 2, 4]),
    "plus signs": Spelling(["+1", "2", "-4"], [1, 2, -4]),
    "Unicode's minus": Spelling(["\u22121.5", "2", "4"], [-1.5, 2, 4]),
    "exponents": Spelling(["1e3", "2.5E-1", "4"], [1000, 0.25, 4]),
    "bare points": Spelling([".5", "2.", "-.25"], [0.5, 2, -0.25]),
    "large numbers": Spelling(["9007199254740993", "2", "4"], [9007199254740992, 2, 4]),
    "decimal commas": Spelling(["1,5", "2", "-4,25"], [1.5, 2, -4.25], {"decimal": ","}),
    "decimal commas unsaid": Spelling(["1,5", "2,5", "-4,25"], refused=r'found .1,5.*write decimal: ","'),
    "points where commas are said": Spelling(
        ["1.5", "2", "4.25"], (), {"decimal": ","}, r'write decimal: "\."', ["1", "2,5", "4"]
    ),
    "thousands": Spelling(["1,000", "2,345.5", "999"], [1000, 2345.5, 999], {"thousands": ","}),
    "thousands unsaid": Spelling(["1,000", "2,345.5", "999"], refused='write thousands: ","'),
    "points and commas": Spelling(["1.000,5", "2", "3.456"], [1000.5, 2, 3456], {"decimal": ",", "thousands": "."}),
    "points and commas unsaid": Spelling(["1.000,5", "2", "3.456,25"], refused='write decimal: ",", thousands: "."'),
    "spaces between thousands": Spelling(["1 000", "2\u00a0500", "3"], [1000, 2500, 3], {"thousands": " "}),
    "groups of other sizes": Spelling(["1,00", "2,00", "4"], (), {"thousands": ","}, "must be numeric; found '1,00'"),
    "apostrophes": Spelling(["1'000", "2\u2019500", "3"], [1000, 2500, 3], {"thousands": "'"}),
    "percent": Spelling(["5%", "12.5 %", "100%"], [0.05, 0.125, 1]),
    "percent in some cells": Spelling(["5%", "0.05", "7%"], refused="write all of them alike"),
    "underscores": Spelling([*map(str, range(39)), "1_000"], refused="found '1_000' in"),
    "marks of absence": Spelling(["1", "NA", "3", "?"], [1, NAN, 3, NAN], {"na": ["NA", "?"], "missing": "mean"}),
    "a number for absence": Spelling(["1", "-999", "3"], [1, NAN, 3], {"na": [-999], "missing": "mean"}),
    "a mark of absence unsaid": Spelling(
        [*(str(k) for k in range(39)), "n/a"], refused=r'found .n/a. in .*write na: \["n/a"\]'
    ),
    "nan spelt out": Spelling([*(str(k) for k in range(39)), "NaN"], refused=r'write na: \["NaN"\]'),
    "empty cells": Spelling(["1", "", "3"], [1, NAN, 3], {"missing": "mean"}),
    "empty cells unsaid": Spelling(
        ["1", "", "3"], refused="missing cells .*set 'missing: mean'", refused_new="missing cells .*set 'missing: mean'"
    ),
    "currencies": Spelling(["$5.00", "$7.50", "\u20ac 9"], refused="take the sign of the currency out"),
    "infinity": Spelling(["1", "inf", "3"], refused="infinite", refused_new="infinite"),
    "dates": Spelling(["1970-01-02", "2024-02-29", "1969-12-31"], [1, 19782, -1]),
    "moments": Spelling(["1970-01-02T12:00", "1970-01-01 06:00:00", "1970-01-03"], [1.5, 0.25, 2]),
    "moments of a time zone": Spelling(
        ["1970-01-02T12:00:00Z", "1970-01-02T12:00:00+06:00", "1970-01-03 00:00Z"], [1.5, 1.25, 2]
    ),
    "moments of which some have a time zone": Spelling(
        ["1970-01-02T12:00:00Z", "1970-01-02T12:00:00", "1970-01-03T00:00:00Z"], refused="must be a date"
    ),
    "days that there are not": Spelling(
        ["2024-02-29", "2023-02-29", *["2024-01-01"] * 38],
        refused="must be a date .YYYY-MM-DD.; found '2023-02-29' in",
        good=["2024-01-01", "2024-03-01"],
        refused_new="must be a date .*found '2023-02-29'",
    ),
    "dates in a format": Spelling(["02/01/1970", "03/01/1970", "31/12/1969"], [1, 2, -1], {"date_format": "%d/%m/%Y"}),
    "dates in a format unsaid": Spelling(
        ["02/01/1970", "03/01/1970", "04/02/1970"], refused='date_format: "%d/%m/%Y" or date_format: "%m/%d/%Y"'
    ),
    "dates with points unsaid": Spelling(["13.01.2024", "14.01.2024"], refused=r'date_format: "%d\.%m\.%Y"'),
    "durations": Spelling(["00:01:30", "8:30", "-1:00:00.5"], [90, 30600, -3600.5]),
    "durations with days": Spelling(["1 day, 01:00:00", "2 days 00:00:01", "P1DT1H"], [90000, 172801, 90000]),
    "true and false": Spelling(["true", "FALSE", "True"], [1, 0, 1]),
    "yes and no": Spelling(["yes", "no", "yes "], ["yes", "no", "yes"]),
    "yes and no as a boolean": Spelling(["yes", "no", "Y"], [1, 0, 1], {"types": {"x": "boolean"}}),
    "words": Spelling(["red", " green", "red"], ["red", "green", "red"]),
    "words, some empty": Spelling(["red", "", "green"], ["red", "x is missing", "green"]),
    "codes among numbers": Spelling(["01", "02", "A1"], ["01", "02", "A1"]),
    "padded codes": Spelling(["01", "02", "10"], ["01", "02", "10"], {"types": {"x": "category"}}),
    "padded numbers": Spelling(["01", "02", "10"], [1, 2, 10]),
    "numbers as a category": Spelling(["1", "2", "1"], ["1", "2", "1"], {"types": {"x": "category"}}),
    "words as a number": Spelling(["1", "two", "3"], (), {"types": {"x": "number"}}, "must be numeric; found 'two'"),
    "names of rows": Spelling(
        [unlike(k) for k in range(ROWS)], refused=r"has (32|40) different values in (32|40) rows, such as 'case-"
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of(kind: str, own: dict[str, Any]) -> dict[str, Any]:
    """Of data in `write_files`' files."""
    named = {"id": "id", "label": "y", **own} | ({} if kind == "parquet" else {"separator": ";"})
    if kind in ("csv", "parquet"):
        return {"kind": kind, "path": f"t.{kind}", **named}
    files = {seat: f"{seat}.{ending}" for seat, ending in ENDINGS[kind].items()}
    return {"kind": "tables", "files": files, **named}


def write_table(table: pd.DataFrame, path: str, separator: str = ";") -> None:
    if path.endswith(".parquet"):
        table.to_parquet(path, index=False)
    elif path.endswith(".npz"):
        np.savez(path, **{name: np.array(table[name].tolist()) for name in table})
    else:
        table.to_csv(path, index=False, sep=separator)


def table_of(cells: Sequence[Any], rows: int = ROWS) -> pd.DataFrame:
    """Rows with these cells, an id, a plain column and a label."""
    x = [cells[k % len(cells)] for k in range(rows)]
    return pd.DataFrame({"id": range(rows), "x": x, "z": np.arange(rows) % 7, "y": [f"c{k % 2}" for k in range(rows)]})


def write_files(kind: str, table: pd.DataFrame, stem: str = "") -> NewRows:
    """The files of a kind of data; where new rows lie if these are some."""
    if kind in ("csv", "parquet"):
        write_table(table, f"{stem or 't'}.{kind}")
        return NewRows(f"{stem or 't'}.{kind}")
    columns = {"a": ["id", "x"], "b": ["id", "z"], "server": ["id", "y"]}
    files = {seat: f"{stem}{seat}.{ending}" for seat, ending in ENDINGS[kind].items()}
    for seat, path in files.items():
        write_table(table[columns[seat]], path)
    return NewRows(files={seat: files[seat] for seat in ("a", "b")})


Trained = tuple[config.ScenarioFile, dict[str, Any]]
"""A scenario, and every seat of it."""


def trained(kind: str, own: dict[str, Any]) -> Trained:
    """The scenario over the files of a kind, as it is before its first step."""
    scenario = {
        "kind": "baseline",
        "data": settings_of(kind, own),
        "parties": {"a": {"columns": "x"}, "b": {"columns": "z"}},
        "bottom": {"kind": "mlp", "hidden": [2]},
        "batch": 4,
        "steps": 1,
    }
    file = config.validate({"name": "s", "scenario": scenario}, "s", {})
    return file, dict(build(file, "", file))


def encoded_training_rows(those: Trained) -> tuple[Encoder, torch.Tensor]:
    """The schema of party a, and all its rows in the order of the file."""
    file, roles = those
    party = roles["a"]
    assert isinstance(party, FeatureParty)
    features = torch.empty(ROWS, party.bottom.features["train"].shape[1])
    for purpose, rows in zip(("train", "evaluate"), drawn_rows(file), strict=True):
        features[torch.from_numpy(rows)] = party.bottom.features[purpose]  # type: ignore[index]
    return party.encoder, features


def drawn_rows(file: config.ScenarioFile) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of the file are for training and held out; seats that meet have put them in the order of their ids."""
    data = file.scenario.data  # type: ignore[attr-defined]
    rng = Rng.root(0).child("rows")
    if not data.apart:
        train, test = data.split(rng)
        return train, test
    order = np.argsort([str(k) for k in range(ROWS)])
    train, test = load("data", Data, {"kind": "synthetic", "count": ROWS}).split(rng)
    return order[train], order[test]


def encoded_new_rows(those: Trained, new: NewRows, **spelt: Any) -> tuple[torch.Tensor, list[str]]:
    """What party a makes of new rows after training, through its state as JSON; ``spelt``: other settings of the new files."""
    file, roles = those
    saved = {role: (each.tensors(), json.loads(json.dumps(each.sidecar()))) for role, each in roles.items()}
    data = file.scenario.data.model_copy(update=spelt)  # type: ignore[attr-defined]
    plan = file.scenario.model_copy(update={"data": data}).predictor(new, saved)
    party = plan.seats["a"].build(Rng.root(0), Rng.root(0))
    assert isinstance(party, QueriedParty)
    return party.bottom.features["query"], party.notices


def decoded(encoder: Encoder, features: torch.Tensor) -> list[Any]:
    """The values of the one column that the features stand for."""
    (column,) = encoder.columns
    if isinstance(column, Numeric):
        return [float(v) * column.scale + column.mean for v in features[:, 0]]
    assert isinstance(column, Categorical)
    names = [*column.categories, "x is missing"]
    return [names[int(row.argmax())] if row.any() else "nothing" for row in features]


def check_values(encoder: Encoder, features: torch.Tensor, spelling: Spelling) -> None:
    found = decoded(encoder, features)
    wanted = [spelling.values[k % len(spelling.values)] for k in range(len(found))]
    column = encoder.columns[0]
    mean, scale = (column.mean, column.scale) if isinstance(column, Numeric) else (0.0, 1.0)
    for value, expected in zip(found, wanted, strict=True):
        if isinstance(expected, str):
            assert value == expected
        else:
            assert value == pytest.approx(
                mean if math.isnan(expected) else expected, rel=1e-6, abs=1e-6 * max(1.0, scale)
            )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPELLINGS)
def test_training_reads_it_right_or_refuses_it(kind: str, name: str) -> None:
    pytest.importorskip("pyarrow")
    spelling = SPELLINGS[name]
    write_files(kind, table_of(spelling.cells))
    if spelling.refused:
        with pytest.raises(DataError, match=f"x.*{spelling.refused}") as error:
            encoded_training_rows(trained(kind, spelling.settings))
        assert "\n" not in str(error.value)
    else:
        check_values(*encoded_training_rows(trained(kind, spelling.settings)), spelling)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPELLINGS)
def test_new_rows_are_read_right_or_refused(kind: str, name: str) -> None:
    pytest.importorskip("pyarrow")
    spelling = SPELLINGS[name]
    own = spelling.settings if not spelling.refused else {k: v for k, v in spelling.settings.items() if k != "types"}
    write_files(kind, table_of(spelling.good if spelling.refused else spelling.cells))
    those, new = trained(kind, own), write_files(kind, table_of(spelling.cells), "new")
    if spelling.refused:
        place = f"new.*(line|row) .*{spelling.refused_new}|column 'x' of new.*{spelling.refused_new}"
        with pytest.raises(DataError, match=place) as error:
            encoded_new_rows(those, new)
        assert "\n" not in str(error.value)
        return
    _, expected = encoded_training_rows(those)
    found, notices = encoded_new_rows(those, new)
    assert torch.equal(found, expected)
    assert notices == []
    alone = write_files(kind, table_of(spelling.cells)[1:2], "new")  # whatever is, or is not, beside it
    assert torch.equal(encoded_new_rows(those, alone)[0], expected[1:2])


# -- types of the file's own


TYPED: dict[str, tuple[Callable[[], Any], list[float | str]]] = {
    "booleans": (lambda: pd.array([True, False]), [1, 0]),
    "small unsigned integers": (lambda: np.array([250, 3], dtype=np.uint8), [250, 3]),
    "large unsigned integers": (lambda: np.array([2**63, 3], dtype=np.uint64), [2.0**63, 3]),
    "nullable integers": (lambda: pd.array([1, None, 3], dtype="Int64"), [1, NAN, 3]),
    "single precision": (lambda: np.array([0.1, 3], dtype=np.float32), [float(np.float32(0.1)), 3]),
    "moments": (lambda: pd.to_datetime(["1970-01-02 12:00", "1970-01-03 00:00"]), [1.5, 2]),
    "moments of a time zone": (lambda: pd.to_datetime(["1970-01-02 12:00+06:00", "1970-01-03 00:00Z"], utc=True), [1.25, 2]),
    "durations": (lambda: pd.to_timedelta([90, 3600], unit="s"), [90, 3600]),
    "dictionaries": (lambda: pd.Categorical(["red", "green", "red"]), ["red", "green", "red"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPED)
def test_types_of_parquet_mean_what_they_say(name: str) -> None:
    pytest.importorskip("pyarrow")
    make, values = TYPED[name]
    cells, table = pd.Series(make()), table_of([0])
    table["x"] = cells.take(np.arange(ROWS) % len(cells)).reset_index(drop=True)
    write_table(table, "t.parquet")
    encoder, features = encoded_training_rows(trained("parquet", {"missing": "mean"}))
    check_values(encoder, features, Spelling([], values))
    new = write_files("parquet", table[1:2], "new")
    assert torch.equal(encoded_new_rows(trained("parquet", {"missing": "mean"}), new)[0], features[1:2])


def test_decimals_of_parquet_are_numbers() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    cells = [decimal.Decimal(f"{k % 5}.25") for k in range(ROWS)]
    table = pyarrow.Table.from_pandas(table_of([0])).set_column(1, "x", pyarrow.array(cells, pyarrow.decimal128(9, 2)))
    parquet.write_table(table, "t.parquet")
    check_values(*encoded_training_rows(trained("parquet", {})), Spelling([], [k + 0.25 for k in range(5)]))


# -- the schema of training


def test_a_schema_is_of_the_training_rows_and_is_kept_as_json() -> None:
    table = table_of(["01", "02", "A1", "04"])
    table.to_csv("t.csv", index=False, sep=";")
    own = {"types": {"z": "category"}}
    _, roles = trained("csv", own)
    state = roles["a"].sidecar()["encoder"]
    assert state["columns"] == [{"name": "x", "categories": ["01", "02", "04", "A1"], "missing": False}]
    assert state["rules"]["decimal"] == "."
    (z,) = roles["b"].sidecar()["encoder"]["columns"]
    assert z["categories"] == [str(k) for k in range(7)]


def test_numbers_in_training_stay_numbers_whatever_new_rows_hold() -> None:
    write_files("csv", table_of(["1", "2", "3"]))
    new = table_of(["1", "2", "3"], 3)
    new["x"] = ["1", "A2", "3"]
    with pytest.raises(DataError, match=r"^new\.csv, line 3: column 'x' must be numeric; found 'A2'$"):
        encoded_new_rows(trained("csv", {}), write_files("csv", new, "new"))


def test_a_category_that_training_never_saw_is_counted() -> None:
    write_files("csv", table_of(["red", "green"]))
    features, notices = encoded_new_rows(
        trained("csv", {}), write_files("csv", table_of(["red", "blue", ""], 6), "new")
    )
    assert features.tolist() == [[0, 1], [0, 0], [0, 0]] * 2
    assert notices == [
        "column 'x' of new.csv has a category that training never saw, 'blue' in line 3: 2 cells are left without a category",
        "column 'x' of new.csv has no value in line 4, which training never saw: 2 cells are left without a category",
    ]


def test_new_files_may_be_spelt_otherwise() -> None:
    write_files("csv", table_of(["1.5", "2.5"]))
    _, expected = encoded_training_rows(trained("csv", {}))
    new = write_files("csv", table_of(["1,5", "2,5"]), "new")
    assert torch.equal(encoded_new_rows(trained("csv", {}), new, decimal=",")[0], expected)


def test_dates_as_points_on_circles() -> None:
    write_files("csv", table_of(["2024-01-01", "2024-07-01", "2025-01-01"]))
    encoder, features = encoded_training_rows(trained("csv", {"dates": "cyclic"}))
    assert encoder.names == ("x year sin", "x year cos", "x week sin", "x week cos")
    assert isinstance(encoder.columns[0], Cyclic)
    torch.testing.assert_close(features[0, :2], features[2, :2], atol=1e-6, rtol=0)
    torch.testing.assert_close(features[:, :2].square().sum(1), torch.ones(ROWS))
    assert features[0, 1] > 0.99
    assert features[1, 1] < -0.99


def test_types_of_columns_that_are_not_there_are_refused() -> None:
    write_files("csv", table_of(["1", "2"]))
    with pytest.raises(DataError, match=r"types: no column 'zz' in t\.csv; did you mean 'z'"):
        trained("csv", {"types": {"zz": "category"}})
    write_files("tables", table_of(["1", "2"]))
    with pytest.raises(DataError, match="types: no column 'zz' in any table; did you mean 'z'"):
        trained("tables", {"types": {"x": "category", "zz": "category"}})
    np.savez("n.npz", x=np.zeros((9, 2)), y=np.arange(9))
    with pytest.raises(DataError, match=r"types: no column '2' in n\.npz"):
        load("data", Data, {"kind": "npz", "path": "n.npz", "types": {2: "category"}}).schema()


# -- numbers


def numbers_of(cells: Sequence[str]) -> list[float | None]:
    """As the slow and as the quick way read them; the quick one may pass."""
    array = np.array(cells, dtype=object)
    values, wrong = TextColumn(array, ParseRules()).parse(number_parser())
    quick = plain_numbers(array[None])
    if quick is not None:
        assert not wrong.any()
        np.testing.assert_array_equal(quick[0], values)
    return [None if bad else float(value) for value, bad in zip(values, wrong, strict=True)]


@given(
    st.lists(
        st.floats(allow_nan=False).map(repr) | st.decimals(allow_nan=False, allow_infinity=False).map(str),
        min_size=1,
        max_size=9,
    )
)
def test_numbers_are_those_of_python(cells: list[str]) -> None:
    assert numbers_of(cells) == [float(cell) for cell in cells]


@given(st.lists(st.text("0123456789+-.eE_,x \u2212\u0661", max_size=9), min_size=1, max_size=5))
def test_text_is_never_another_number(cells: list[str]) -> None:
    for cell, value in zip(cells, numbers_of(cells), strict=True):
        if value is not None and not math.isnan(value):
            assert value == float(cell.replace("\u2212", "-"))
        elif value is not None:
            assert cell.strip() == ""


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(repr), min_size=1, max_size=9))
def test_numbers_are_those_of_pyarrow(cells: list[str]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    compute = pytest.importorskip("pyarrow.compute")

    assert numbers_of(cells) == compute.cast(pyarrow.array(cells), pyarrow.float64()).to_pylist()


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_signs_of_other_countries_change_no_number(value: float) -> None:
    cell = f"{value:,.3f}"
    assert number_parser(".", ",")(cell) == float(cell.replace(",", ""))
    swapped = cell.translate(str.maketrans(",.", ".,"))
    assert number_parser(",", ".")(swapped) == float(cell.replace(",", ""))


def test_statistics_of_many_columns_are_those_of_each_alone() -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(301, 50)) * draw.lognormal(size=50), columns=[f"g{k}" for k in range(50)])
    frame.iloc[3, 7] = NAN
    raw = RawTable(frame, True, "", np.arange(1, 302))
    encoder = Encoder.fit(raw, "mean")
    for column in encoder.columns:
        there = frame[column.name].to_numpy()[~np.isnan(frame[column.name])]
        assert isinstance(column, Numeric)
        assert (column.mean, column.scale) == (float(there.mean()), float(there.std()))
