"""What is never a feature, which classes there are, and new rows that come as a table a party."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from terminal import fedsim, fine, refused

from fedsim.errors import DataError
from fedsim.parties.classes import LabelEncoder, fit_classes, note_labels, note_unseen

ONE_FILE = """\
scenario:
  kind: baseline
  data: {kind: csv, path: t.csv, label: y, %s}
  parties: {a: {columns: "a1, a2"}, b: {columns: "b1, b2"}}
  bottom: {kind: mlp, hidden: [8]}
  batch: 16
  steps: 40
"""
TABLES = """\
scenario:
  kind: baseline
  data: {kind: tables, id: key, label: y, %s}
  parties: {a: {columns: "%s"}, b: {columns: "%s"}}
  bottom: {kind: mlp, hidden: [8]}
  batch: 16
  steps: 40
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(rows: int = 120) -> pd.DataFrame:
    """Numbers that decide a label, and a key of each row."""
    draw = np.random.default_rng(1)
    found = pd.DataFrame({name: draw.normal(size=rows).round(3) for name in ("a1", "a2", "b1", "b2")})
    return found.assign(y=np.where(found.a1 + found.b1 > 0, "yes", "no"), key=[f"k{7 * i % 1000}" for i in range(rows)])


def write_tables(whole: pd.DataFrame, **columns: list[str]) -> None:
    for i, (seat, names) in enumerate(columns.items()):
        whole[["key", *names]].sample(frac=1, random_state=i).to_csv(f"{seat}.csv", index=False)


def predicted(*words: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(fine("predict", *words))))


# -- the label


@pytest.mark.parametrize(("spec", "seat"), [("*", "a"), ("0:", "a"), ("a1, y", "a"), ("[ay]*", "b")])
def test_a_label_in_a_partys_own_table_is_no_feature(spec: str, seat: str) -> None:
    table().to_csv("all.csv", index=False)
    files = "files: {a: all.csv, b: all.csv, server: all.csv}"
    columns = {"a": "a1, a2", "b": "b1, b2"} | {seat: spec}
    Path("s.yaml").write_text(TABLES % (files, columns["a"], columns["b"]))
    line = refused("check", "s.yaml")
    assert line.startswith(f"all.csv at {seat}: column 'y' is the label, which is never a feature")


def test_the_seat_that_holds_the_label_takes_all_other_columns() -> None:
    table().to_csv("a.csv", index=False)
    write_tables(table(), b=["b1", "b2"])
    Path("s.yaml").write_text(TABLES % ("test: 0.3", "*", "b1, b2") + "  labels: a\n")
    fine("run", "s.yaml", "--out", "run")
    seats = json.loads(Path("run/seats.json").read_text())["arms"]["s"]["seats"]
    assert seats["a"]["describe"]["own"]["columns"] == ["a1", "a2", "b1", "b2"]


def test_a_label_holder_needs_no_columns_and_others_do() -> None:
    write_tables(table(), a=["y"], b=["b1", "b2"])
    Path("s.yaml").write_text(TABLES % ("test: 0.3", "", "b1, b2") + "  labels: a\n")
    fine("run", "s.yaml", "--out", "run")
    table().drop(columns="y").to_csv("new.csv", index=False)
    assert len(predicted("run", "new.csv")) == 121
    assert len(predicted("run", "--data", "b=b.csv")) == 121
    Path("none.yaml").write_text(TABLES % ("test: 0.3", "a1", "") + "  labels: a\n")
    assert "party 'b' has no columns; only the seat that holds the labels, a, may have none" in refused(
        "check", "none.yaml"
    )
    table().to_csv("t.csv", index=False)
    Path("one.yaml").write_text((ONE_FILE % "id: key, drop: [a1, a2]").replace('"a1, a2"', '""') + "  labels: a\n")
    fine("run", "one.yaml", "--out", "one")
    assert "a: {columns: ''}" not in fine("check", "one.yaml")
    assert len(predicted("one", "t.csv")) == 121
    Path("none.yaml").write_text((ONE_FILE % "id: key, drop: [a1, a2]").replace('"a1, a2"', '""'))
    assert "party 'a' has no columns" in refused("check", "none.yaml")


@pytest.mark.parametrize("runtime", ["local", "processes"])
def test_a_class_without_training_rows_is_refused_before_anything_runs(runtime: str) -> None:
    whole = table()
    whole["part"] = np.where((whole.y == "no") | (whole.index % 4 == 0), "test", "train")
    whole.to_csv("t.csv", index=False)
    Path("s.yaml").write_text(ONE_FILE % "id: key, split: {column: part, test: test}")
    assert "training labels have only one class, 'yes'" in refused("check", "s.yaml")
    assert (
        "training labels have only one class, 'yes'" in fedsim("run", "s.yaml", "--runtime", runtime, "--out", "o").err
    )
    assert not (Path("o") / "report.html").exists()


def test_held_out_labels_that_training_lacks_are_counted() -> None:
    labels = np.array(["a", "b", "a", "b", "c", "c", "d"], dtype=object)
    with pytest.raises(
        DataError, match=r"class 'c' has no training row, but 2 of 4 held-out rows are of it, and of 1 more"
    ):
        fit_classes(labels, np.arange(3), np.arange(3, 7))
    assert fit_classes(labels, np.arange(2), np.arange(2, 4)).classes == ("a", "b"), "unused rows make no class"


def test_a_class_that_a_small_sample_misses_is_said() -> None:
    labels = np.array(["a", "b", "a", "b", "c", "c", "d"], dtype=object)
    classes = fit_classes(labels, np.arange(3), np.arange(3, 6), sampled=True)
    assert classes.classes == ("a", "b", "c"), "rows that nobody uses make no class"
    codes = classes.apply(labels[:6])
    assert note_unseen(codes[:3], codes[3:], classes) == [
        "2 of 3 held-out rows are of classes without a training row: 'c'"
    ]
    assert note_unseen(codes, codes[3:], classes) == []
    with pytest.raises(DataError, match="only one class, 'c'"):
        fit_classes(labels, np.arange(4, 6), np.arange(4), sampled=True)


def test_labels_in_several_spellings_are_one_class() -> None:
    assert LabelEncoder.fit(np.array(["yes ", "yes", " no", "no"])).classes == ("no", "yes")
    assert LabelEncoder.fit(np.array(["3", "3.0", "10", "3e0"])).classes == ("3", "10")
    assert LabelEncoder.fit(np.array(["true", "False", "TRUE"])).classes == ("False", "True")
    assert LabelEncoder.fit(np.array(["01", "02", "10"])).classes == ("01", "02", "10"), "codes keep their zeros"
    assert LabelEncoder.fit(np.array([2.5, 3.0])).apply(np.array(["3", "2.50"])).tolist() == [1, 0]
    labels = np.array(["yes ", "yes", "no"], dtype=object)
    (notice,) = note_labels(labels, LabelEncoder.fit(labels))
    assert notice == "1 labels have spaces around them and count without: 'yes' and 'yes ' are one class"


def test_labels_with_a_space_are_said_in_check_and_run() -> None:
    whole = table()
    whole.loc[3, "y"] += " "
    whole.to_csv("t.csv", index=False)
    Path("s.yaml").write_text(ONE_FILE % "id: key")
    assert "server: 1 labels have spaces around them" in fine("check", "s.yaml")
    assert "server: 1 labels have spaces around them" in fedsim("run", "s.yaml", "--out", "run").err


def test_a_copy_of_the_label_at_its_own_seat_is_said() -> None:
    whole = table().assign(copy=table().y.str.replace("yes", "yes "))
    whole.to_csv("t.csv", index=False)
    Path("s.yaml").write_text((ONE_FILE % "id: key").replace('"a1, a2"', '"a1, a2, copy"') + "  labels: a\n")
    out = fine("check", "s.yaml")
    assert "a: column 'copy' of t.csv is the label in every row; is it to be a feature?" in out
    assert "'a1'" not in out


def test_numbers_as_labels_are_refused_and_many_classes_said() -> None:
    with pytest.raises(DataError, match="the training labels have 40 different values in 40 rows, such as '0'"):
        LabelEncoder.fit(np.arange(40) / 3)
    labels = np.arange(1000) % 150
    assert "have 150 classes" in note_labels(labels, LabelEncoder.fit(labels))[0]


# -- new rows, a table a party


def alike(whole: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A table a party, both with columns x0 and x1."""
    return {
        seat: whole[["key", *names]].set_axis(["key", "x0", "x1"], axis=1)
        for seat, names in {"a": ["a1", "a2"], "b": ["b1", "b2"]}.items()
    }


def test_columns_alike_take_a_table_a_party() -> None:
    whole = table()
    for seat, own in alike(whole).items():
        own.to_csv(f"{seat}.csv", index=False)
    whole[["key", "y"]].to_csv("server.csv", index=False)
    Path("s.yaml").write_text(TABLES % ("test: 0.3", "x0, x1", "x0, x1") + "  optimiser: {kind: adam, lr: 0.05}\n")
    fine("run", "s.yaml", "--out", "run")
    line = refused("predict", "run", "a.csv")
    assert line == (
        "a.csv: both a and b have a column 'x0', each in a table of its own, and one file cannot have both; give each its own "
        "new rows: --data a=FILE --data b=FILE"
    )
    new = alike(whole)
    new["a"].to_csv("na.csv", index=False)
    new["b"].iloc[::-1].iloc[:100].to_csv("nb.csv", index=False)
    said = fedsim("predict", "run", "--data", "a=na.csv", "--data", "b=nb.csv", "--data", "server=server.csv")
    lines = list(csv.reader(io.StringIO(said.out)))
    assert lines[0] == ["row", "id", "prediction", "p(no)", "p(yes)"]
    assert [line[1] for line in lines[1:]] == whole.key.tolist()[20:]
    assert np.mean([line[2] for line in lines[1:]] == whole.y[20:]) > 0.9
    assert "100 rows are in every file, matched by id; left out: 20 of na.csv, 20 of server.csv" in said.err
    assert "score over 100 rows with labels: accuracy ." in said.err


def test_without_ids_rows_are_matched_by_their_order() -> None:
    whole = table()
    write_tables(whole, a=["a1", "a2"], b=["b1", "b2"], server=["y"])
    Path("s.yaml").write_text(TABLES % ("test: 0.3", "a1, a2", "b1, b2"))
    fine("run", "s.yaml", "--out", "run")
    whole.to_csv("new.csv", index=False)
    expected = [line[1:] for line in predicted("run", "new.csv")[1:]]
    whole[["a1", "a2"]].to_csv("na.csv", index=False)
    whole[["b2", "b1"]].to_csv("nb.csv", index=False)
    said = fedsim("predict", "run", "--data", "a=na.csv", "--data", "b=nb.csv")
    assert [line[1:] for line in csv.reader(io.StringIO(said.out))][1:] == expected
    assert "matched by their order" in said.err
    whole[["b1", "b2"]].head(7).to_csv("nb.csv", index=False)
    line = refused("predict", "run", "--data", "a=na.csv", "--data", "b=nb.csv")
    assert line.endswith("or by order: na.csv has 120, nb.csv has 7")


def test_what_is_wrong_with_new_tables_is_said() -> None:
    write_tables(table(), a=["a1", "a2"], b=["b1", "b2"], server=["y"])
    Path("s.yaml").write_text(TABLES % ("test: 0.3", "a1, a2", "b1, b2"))
    fine("run", "s.yaml", "--out", "run")
    cases = {
        ("run",): "no new rows: expected a file with the columns of all parties, or --data SEAT=FILE for each party",
        ("run", "--data", "a=a.csv"): "no new rows for b: --data b=FILE, or one file with the columns of all parties",
        ("run", "--data", "a.csv"): "--data a.csv: expected SEAT=FILE, such as --data north=new.csv",
        ("run", "--data", "aa=a.csv"): "--data: no seat 'aa'; did you mean 'a'? allowed: a, b, server",
        ("run", "--data", "a=a.csv", "--data", "a=b.csv"): "--data a=b.csv: seat 'a' has a file already, a.csv",
        ("run", "a.csv", "--set", "scenario.steps=3"): (
            "--set scenario.steps=3: of a trained run only the settings under scenario.data can change"
        ),
    }
    for words, line in cases.items():
        assert refused("predict", *words) == line


# -- scores, spellings and neighbours


def test_a_score_is_over_the_rows_with_known_labels() -> None:
    whole = table()
    whole.to_csv("t.csv", index=False)
    Path("s.yaml").write_text(ONE_FILE % "id: key")
    fine("run", "s.yaml", "--out", "run")
    new = whole.copy()
    new.loc[:9, "y"] = ""
    new.loc[10:12, "y"] = "maybe"
    new.to_csv("new.csv", index=False)
    said = fedsim("predict", "run", "new.csv")
    assert "3 rows have labels that training never saw, such as 'maybe', and no part in the score" in said.err
    assert "score over 107 rows with labels: accuracy" in said.err
    assert "score over" in fine("predict", "run", "t.csv", "--out", "p.csv")
    whole.drop(columns="y").to_csv("new.csv", index=False)
    assert fedsim("predict", "run", "new.csv").err == ""


def test_new_files_may_have_other_signs() -> None:
    table().to_csv("t.csv", index=False)
    Path("s.yaml").write_text(ONE_FILE % "id: key")
    fine("run", "s.yaml", "--out", "run")
    table().to_csv("new.csv", index=False, sep=";", decimal=",")
    signs = ["--set", "scenario.data.separator=;", "--set", "scenario.data.decimal=,"]
    assert predicted("run", "new.csv", *signs) == predicted("run", "t.csv")


def test_a_row_has_the_same_answer_whatever_stands_beside_it() -> None:
    whole = table(1000)
    whole.to_csv("t.csv", index=False)
    Path("s.yaml").write_text(ONE_FILE % "id: key")
    fine("run", "s.yaml", "--out", "run")
    together = predicted("run", "t.csv")
    whole.iloc[::-1].to_csv("turned.csv", index=False)
    turned = predicted("run", "turned.csv")
    assert [line[1] for line in turned[:0:-1]] == [line[1] for line in together[1:]]
    numbers = [np.array([line[2:] for line in lines], dtype=float) for lines in (turned[:0:-1], together[1:])]
    np.testing.assert_allclose(*numbers, atol=1.1e-6)
    for row in (0, 31, 32, 555, 999):
        whole.iloc[[row]].to_csv("one.csv", index=False)
        (_, alone) = predicted("run", "one.csv")
        assert alone[1] == together[row + 1][1]
        assert [float(p) for p in alone[2:]] == pytest.approx([float(p) for p in together[row + 1][2:]], abs=1.1e-6)
