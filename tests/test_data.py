"""The kinds of data: what each reads, how it splits, and what it says about a file that it cannot use."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from fedsim.errors import DataError
from fedsim.parties.cut import ImagePart, ImageSchema, TablePart, TableSchema, cut
from fedsim.parties.data import Data, _table, find_file
from fedsim.parties.encode import Encoder, LabelEncoder
from fedsim.plugins import find, load, names
from fedsim.seeding import Rng

RNG = Rng.root(7)
PEOPLE = pd.DataFrame(
    {
        "id": range(8),
        "age": [20, 30, 40, 50, 60, 70, 80, 90],
        "job": ["nurse", "", "cook", "cook", "nurse", "NA", "cook", "nurse"],
        "pay": [1.5, 2.0, 3.25, 4.0, 5.0, 6.0, 7.0, 8.0],
        "fold": ["train"] * 6 + ["test"] * 2,
        "rich": ["no", "no", "yes", "no", "yes", "yes", "no", "yes"],
    }
)
SETTINGS = {"label": "rich", "id": "id", "split": {"column": "fold", "test": "test"}}
SHARED = pytest.mark.skipif("FEDSIM_DATA" not in os.environ, reason="needs the data sets in $FEDSIM_DATA")


def make(**settings: Any) -> Data:
    return load("data", Data, settings)


@pytest.fixture(params=["csv", "csv.gz", "parquet"])
def people(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings of the people above in each format."""
    path = tmp_path / f"people.{request.param}"
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
        PEOPLE.assign(job=PEOPLE["job"].replace("", None)).to_parquet(path)
        return {"kind": "parquet", "path": str(path), **SETTINGS}
    PEOPLE.to_csv(path, index=False)
    return {"kind": "csv", "path": str(path), **SETTINGS}


def write(tmp_path: Path, text: str, name: str = "table.csv") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def archive(tmp_path: Path, **arrays: Any) -> str:
    path = tmp_path / "archive.npz"
    np.savez(path, **arrays)
    return str(path)


# -- every kind


KINDS = [
    "csv", "domains", "image_pair", "mnist5k", "npz", "parquet", "photo_digits", "sklearn", "synthetic", "tables",
]  # fmt: skip


def test_the_kinds() -> None:
    assert names("data") == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_and_field_is_described(kind: str) -> None:
    found = find("data", kind, Data)
    assert found.__doc__
    for name, field in found.model_fields.items():
        assert field.description, name
    assert all(name in found.model_fields for name in found.location)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "sklearn", "name": "wine", "rows": 20, "test": 30},
        {"kind": "csv", "path": "a.csv", **SETTINGS, "drop": ["pay"]},
        {"kind": "synthetic", "count": 30},
    ],
)
def test_settings_survive_being_dumped(settings: dict[str, Any]) -> None:
    data = make(**settings)
    dumped = data.model_dump(mode="json")
    assert {key: dumped[key] for key in settings} == settings
    assert make(**dumped) == data


@pytest.mark.parametrize("test", [0, -1, 0.0, 1.0, 1.5, True, "many", None])
def test_held_out_rows_are_a_fraction_or_a_count(test: object) -> None:
    with pytest.raises(ValidationError, match="expected a fraction between 0 and 1 or a count"):
        find("data", "mnist5k", Data).model_validate({"test": test})


# -- the split


@pytest.mark.parametrize(("test", "held"), [(0.2, 20), (30, 30), (0.001, 1)])
def test_the_split_is_drawn_once_for_all_seats(test: float, held: int) -> None:
    data = make(kind="synthetic", count=100, test=test)
    train, out = data.split(RNG)
    assert train.dtype == out.dtype == np.int64
    assert len(out) == held
    assert sorted([*train, *out]) == list(range(100))
    again = make(kind="synthetic", count=100, test=test, rows=10).split(RNG)
    np.testing.assert_array_equal(again[0], train[:10])
    np.testing.assert_array_equal(again[1], out)
    assert not np.array_equal(data.split(Rng.root(8))[1], out)


@pytest.mark.parametrize(("rows", "test"), [(90, 11), (None, 100), (81, 0.2)])
def test_more_rows_than_there_are_is_refused(rows: int | None, test: float) -> None:
    with pytest.raises(DataError, match=f"{rows or 1} training and .* held-out rows are asked of 100 rows"):
        make(kind="synthetic", count=100, rows=rows, test=test).split(RNG)


def test_a_split_column_is_obeyed(people: dict[str, Any]) -> None:
    train, test = make(**people).split(RNG)
    assert sorted(train) == [0, 1, 2, 3, 4, 5]
    assert sorted(test) == [6, 7]
    train, test = make(**people, rows=4, test=1).split(RNG)
    assert (len(train), len(test)) == (4, 1)
    with pytest.raises(DataError, match=r"7 training and 2 held-out rows are asked .* with 6 training and 2"):
        make(**people, rows=7).split(RNG)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"column": "fold", "test": "tset"}, "has fold 'tset'; found: test, train"),
        ({"column": "flod", "test": "test"}, "no column 'flod'; did you mean 'fold'"),
        ({"column": "job", "test": "cook"}, "split column 'job' of .* has 1 missing cells"),
    ],
)
def test_a_wrong_split_column_is_refused(people: dict[str, Any], split: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(**people | {"split": split}).split(RNG)


# -- files with columns


def test_tables_hold_features_labels_and_rows(people: dict[str, Any]) -> None:
    data = make(**people)
    assert data.schema() == TableSchema(("age", "job", "pay"))
    assert data.count() == 8
    assert data.labels().tolist() == PEOPLE["rich"].tolist()
    table = data.read(TablePart(("pay", "age")))
    assert isinstance(table, pd.DataFrame)
    assert table.columns.tolist() == ["pay", "age"]
    assert table["age"].tolist() == PEOPLE["age"].tolist()
    jobs = data.read(TablePart(("job",)))
    assert isinstance(jobs, pd.DataFrame)
    assert jobs["job"].isna().tolist() == [k == 1 for k in range(8)], "only the empty cell is missing, not 'NA'"


def test_a_party_reads_its_own_columns_only(people: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    inner = _table.read_raw
    monkeypatch.setattr(
        _table, "read_raw", lambda file, columns, *rest: asked.append(list(columns)) or inner(file, columns, *rest)
    )
    data = make(**people)
    data.schema()
    data.read(TablePart(("pay", "age")))
    data.labels()
    assert asked == [["pay", "age"], ["rich"]]


def test_the_cut_knows_what_the_other_columns_are(people: dict[str, Any]) -> None:
    data = make(**people | {"drop": ["pay"]})
    assert cut(data.schema(), {"a": "0:1", "b": "job:"}, data.drop) == {
        "a": TablePart(("age",)),
        "b": TablePart(("job",)),
    }
    for name, what in {"rich": "the label", "id": "the id", "fold": "the split", "pay": "in 'drop'"}.items():
        with pytest.raises(DataError, match=f"'{name}' is {what}"):
            cut(data.schema(), {"a": "age, job", "b": name}, data.drop)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "rihc"}, "no column 'rihc'; did you mean 'rich'?"),
        ({"id": "idd"}, "no column 'idd'; did you mean 'id'?"),
        ({"label": "job"}, "label column 'job' of .* has 1 missing cells"),
        ({"path": "nowhere.csv"}, "no data file 'nowhere.csv'; looked at: "),
    ],
)
def test_wrong_columns_are_refused(people: dict[str, Any], change: dict[str, Any], message: str) -> None:
    data = make(**people | change)
    with pytest.raises(DataError, match=message):
        data.schema(), data.labels()


@pytest.mark.parametrize("part", [TablePart(("age", "rich")), TablePart(("agee",)), ImagePart((0, 1), (0, 1))])
def test_a_part_that_is_not_of_this_table_is_refused(people: dict[str, Any], part: TablePart | ImagePart) -> None:
    with pytest.raises(DataError, match=r"no column|is a table"):
        make(**people).read(part)


@pytest.mark.parametrize(
    ("cell", "missing", "message"),
    [
        ("", "error", "column 'a' of .* has 1 missing cells .*'missing: mean'"),
        ("inf", "error", "column 'a' of .* has 1 cells that are infinite"),
        ("-inf", "mean", "column 'a' of .* has 1 cells that are infinite"),
    ],
)
def test_numbers_must_be_finite(tmp_path: Path, cell: str, missing: str, message: str) -> None:
    path = write(tmp_path, f"a,b,y\n1,2,0\n{cell},3,1\n")
    data = make(kind="csv", path=path, label="y", missing=missing)
    with pytest.raises(DataError, match=message):
        data.read(TablePart(("a", "b")))
    data.read(TablePart(("b",)))


def test_missing_numbers_pass_where_the_mean_is_to_fill_them(tmp_path: Path) -> None:
    data = make(kind="csv", path=write(tmp_path, "a,y\n1,0\n,1\n3,1\n"), label="y", missing="mean")
    table = data.read(TablePart(("a",)))
    assert Encoder.fit(table, data.missing).apply(table).flatten().tolist() == pytest.approx([-1, 0, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,y\n", "has no rows"),
        ("y\n1\n", "has no feature columns; its columns: y"),
        ("a,a,y\n1,2,3\n", "two columns named 'a'"),
        ("a;y\n1;2\n", "no line is separated by ','; they look separated by ';': set 'separator'"),
        ('a,y\n"1,2\n', "line 2: a quote .* is opened in this record and never closed"),
    ],
)
def test_a_malformed_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    data = make(kind="csv", path=write(tmp_path, text), label="y")
    with pytest.raises(DataError, match=message):
        data.schema(), data.labels()


def test_csv_dialects(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffa b;;y\r\n1;5;0\r\n\r\n2;6;1\r\n")
    data = make(kind="csv", path=path, label="y", separator=";")
    assert data.schema() == TableSchema(("a b", "Unnamed: 1"))
    assert data.count() == 2
    assert np.asarray(data.read(TablePart(("Unnamed: 1", "a b")))).tolist() == [[5, 1], [6, 2]]


def test_lines_that_end_in_a_comma_do_not_shift_the_columns(tmp_path: Path) -> None:
    data = make(kind="csv", path=write(tmp_path, "a,y\n1,0,\n2,1,\n"), label="y")
    assert np.asarray(data.read(TablePart(("a",)))).flatten().tolist() == [1, 2]
    assert data.labels().tolist() == ["0", "1"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("name", ["data.bin", "data.gz", "data.zip"])
def test_bytes_of_another_format_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(5000))
    settings = {"kind": kind, "path": str(tmp_path / name), **({} if kind == "npz" else {"label": "y"})}
    with pytest.raises(DataError) as error:
        make(**settings).schema()
    assert "\n" not in str(error.value)


def test_damaged_files_are_read_or_refused(people: dict[str, Any], tmp_path: Path) -> None:
    """Whatever a flipped or lost byte makes of a file, only DataError may come out."""
    whole = Path(people["path"]).read_bytes()
    damage(whole, Path(people["path"]), people, TablePart(("age", "job", "pay")))


def test_damaged_archives_are_read_or_refused(tmp_path: Path) -> None:
    path = Path(archive(tmp_path, x=np.zeros((4, 3)), y=np.arange(4)))
    damage(path.read_bytes(), path, {"kind": "npz", "path": str(path)}, TablePart(("0", "1", "2")))


def damage(whole: bytes, path: Path, settings: dict[str, Any], part: TablePart) -> None:
    draw, data = np.random.default_rng(0), make(**settings)
    refused: list[str] = []
    for k in range(150):
        bad = bytearray(whole)
        bad[int(draw.integers(len(bad)))] ^= 1 << int(draw.integers(8))
        path.write_bytes(bytes(bad) if k % 3 else whole[: int(draw.integers(len(whole)))])
        try:
            data.schema(), data.count(), data.labels(), data.read(part), data.split(RNG)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert not any("\n" in message for message in refused)


def test_an_index_that_pandas_stored_is_no_feature(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "indexed.parquet"
    PEOPLE[["age", "rich"]].iloc[[3, 1, 2]].to_parquet(path)
    data = make(kind="parquet", path=str(path), label="rich")
    assert data.schema() == TableSchema(("age",))
    assert np.asarray(data.read(TablePart(("age",)))).flatten().tolist() == [50, 30, 40]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = builtins.__import__

    def without_pyarrow(name: str, *args: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return inner(name, *args)

    data = make(kind="parquet", path=write(tmp_path, "PAR1"), label="y")
    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(DataError, match=r"pip install 'fedsim-vfl\[parquet\]'"):
        data.schema()


# -- new rows


def test_new_rows_need_only_what_the_part_reads(people: dict[str, Any], tmp_path: Path) -> None:
    data, new = make(**people), tmp_path / f"new.{people['kind']}"
    rows = pd.DataFrame({"extra": [1, 2], "pay": [3.5, 4.5], "job": ["cook", "pilot"]})
    rows.to_parquet(new) if people["kind"] == "parquet" else rows.to_csv(new, index=False)
    other = data.elsewhere(str(new))
    assert other.count() == 2
    assert other.schema() == TableSchema(("extra", "pay", "job"))
    encoder = Encoder.fit(data.read(TablePart(("pay",))))
    assert encoder.apply(other.read(TablePart(("pay",)))).shape == (2, 1)
    with pytest.raises(DataError, match="no column 'age'"):
        other.read(TablePart(("age",)))
    with pytest.raises(DataError, match="no column 'rich'"):
        other.labels()
    assert data.count() == 8, "the original still reads its own file"


def test_new_rows_may_bring_their_labels(people: dict[str, Any]) -> None:
    other = make(**people).elsewhere(people["path"])
    assert other.schema() == TableSchema(("age", "job", "pay"))
    assert len(other.labels()) == 8


def test_new_images(tmp_path: Path) -> None:
    path = archive(tmp_path, x=np.full((3, 4, 4), 255, dtype=np.uint8))
    data = make(kind="npz", path="mnist.npz", x_test="t", y_test="u").elsewhere(path)
    assert data.count() == 3
    np.testing.assert_array_equal(data.read(ImagePart((0, 2), (0, 4))), np.ones((3, 1, 2, 4), dtype=np.float32))


@pytest.mark.parametrize("settings", [{"kind": "mnist5k"}, {"kind": "synthetic"}, {"kind": "sklearn", "name": "iris"}])
def test_kinds_without_a_file_read_no_new_rows(settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"'{settings['kind']}' cannot read 'new.csv'; kinds .*: csv, npz, parquet"):
        make(**settings).elsewhere("new.csv")


# -- archives


AB = {"x": ["a", "b"]}
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (IMAGES, (3, 4, 5)),
        (IMAGES[..., 0], (1, 4, 5)),
        (IMAGES[..., :1], (1, 4, 5)),
        (IMAGES.transpose(0, 3, 1, 2), (3, 4, 5)),
    ],
)
def test_archives_of_images(tmp_path: Path, x: np.ndarray, shape: tuple[int, int, int]) -> None:
    data = make(kind="npz", path=archive(tmp_path, x=x, y=np.arange(6)))
    assert data.schema() == ImageSchema(shape)
    images = data.read(ImagePart((1, 3), (0, 5)))
    assert isinstance(images, np.ndarray)
    assert images.dtype == np.float32
    expected = IMAGES.transpose(0, 3, 1, 2)[:, : shape[0], 1:3] / 255
    np.testing.assert_allclose(images, expected, atol=1e-7)


def test_archives_of_tables(tmp_path: Path) -> None:
    path = archive(tmp_path, x=np.arange(6).reshape(3, 2), y=np.array(["a", "b", "a"]))
    data = make(kind="npz", path=path)
    assert data.schema() == TableSchema(("0", "1"))
    assert data.labels().tolist() == ["a", "b", "a"]
    assert np.asarray(data.read(TablePart(("1",)))).flatten().tolist() == [1, 3, 5]
    named = make(kind="npz", path=path, names=["left", "right"], scale=2)
    assert np.asarray(named.read(TablePart(("right",)))).flatten().tolist() == [0.5, 1.5, 2.5]


def test_tables_under_several_keys_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.arange(6).reshape(3, 2), np.array([[0.5], [1.5], [2.5]])
    data = make(kind="npz", path=archive(tmp_path, a=a, b=b, y=np.arange(3)), x=["a", "b"])
    assert data.schema() == TableSchema(("a.0", "a.1", "b.0"))
    assert data.count() == 3
    assert np.asarray(data.read(TablePart(("b.0", "a.1")))).tolist() == [[0.5, 1.0], [1.5, 3.0], [2.5, 5.0]]
    assert sorted(np.concatenate(data.split(RNG)).tolist()) == [0, 1, 2]
    read, arrays = list[str](), type(data)._arrays  # type: ignore[attr-defined]
    monkeypatch.setattr(type(data), "_arrays", lambda self, key, *rest: (read.append(key), arrays(self, key, *rest))[1])
    data.read(TablePart(("b.0",)))
    assert read == ["b"]


def test_an_archive_brings_its_own_split(tmp_path: Path) -> None:
    path = archive(tmp_path, x=IMAGES[:4], y=np.arange(4), xt=IMAGES[4:], yt=np.arange(4, 6))
    data = make(kind="npz", path=path, x_test="xt", y_test="yt")
    assert data.count() == 6
    assert data.labels().tolist() == list(range(6))
    train, test = data.split(RNG)
    assert (sorted(train), sorted(test)) == ([0, 1, 2, 3], [4, 5])


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({"x": IMAGES}, {}, "has no array 'y'"),
        ({"xx": IMAGES, "y": np.arange(6)}, {}, "has no array 'x'; did you mean 'xx'"),
        ({"x": IMAGES, "y": np.arange(5)}, {}, r"'x' has 6 rows, but the shape of its labels 'y' is \(5,\)"),
        ({"x": IMAGES, "y": np.zeros((6, 2))}, {}, r"labels 'y' have shape \(6, 2\)"),
        ({"x": IMAGES[0, 0, 0], "y": np.arange(3)}, {}, "allowed: .n, D."),
        ({"x": np.zeros((6, 4, 4, 4)), "y": np.arange(6)}, {}, "with C 1 or 3"),
        ({"x": np.array([["a"], ["b"]]), "y": np.arange(2)}, {}, "'x' holds <U1; allowed: numbers"),
        ({"x": np.array([[1, None]], dtype=object), "y": np.arange(1)}, {}, "'x' holds object; allowed: numbers"),
        ({"x": IMAGES, "y": np.array([{}] * 6)}, {}, "'y' holds object; allowed: numbers or text"),
        ({"x": IMAGES[:0], "y": np.arange(0)}, {}, "'x' has no rows"),
        ({"x": IMAGES, "y": np.array([0, 1, np.nan] * 2)}, {}, "labels 'y' have 2 missing cells"),
        ({"x": IMAGES, "y": np.arange(6)}, {"scale": 100}, "pixels divided by 100 span .* so set 'scale'"),
        ({"x": IMAGES.astype(float), "y": np.arange(6)}, {}, "pixels divided by 1 span"),
        ({"x": np.full((6, 2, 2), np.nan), "y": np.arange(6)}, {}, "24 pixels that are NaN"),
        ({"x": np.full((6, 2), np.inf), "y": np.arange(6)}, {}, "column '0' of .* has 6 cells that are infinite"),
        ({"x": np.full((6, 2), np.nan), "y": np.arange(6)}, {}, "column '0' of .* has 6 missing cells"),
        (
            {"a": np.zeros((3, 2)), "b": np.zeros((4, 1)), "y": np.arange(3)},
            AB,
            r"'a' has 3 rows, .* of 'b' is \(4, 1\)",
        ),
        ({"a": np.zeros((6, 2)), "b": IMAGES, "y": np.arange(6)}, AB, r"'b' has shape .*; allowed beside other keys"),
        ({"a": np.zeros((3, 2)), "bb": np.zeros((3, 1)), "y": np.arange(3)}, AB, "no array 'b'; did you mean 'bb'"),
        ({"a": np.zeros((3, 2)), "b": np.full((3, 1), np.inf), "y": np.arange(3)}, AB, "column 'b.0' of .* infinite"),
        ({"x": np.zeros((6, 2)), "y": np.arange(6)}, {"names": ["a"]}, "1 different names for the 2 columns"),
        ({"x": np.zeros((6, 2)), "y": np.arange(6)}, {"names": ["a", "a"]}, "1 different names for the 2 columns"),
        (
            {"x": IMAGES, "y": np.arange(6), "t": IMAGES[:, 1:], "u": np.arange(6)},
            {"x_test": "t", "y_test": "u"},
            "differ",
        ),
    ],
)
def test_a_wrong_archive_is_refused(tmp_path: Path, arrays: Any, settings: Any, message: str) -> None:
    data = make(kind="npz", path=archive(tmp_path, **arrays), **settings)
    with pytest.raises(DataError, match=message):
        read_all(data)


def read_all(data: Data) -> None:
    schema = data.schema()
    data.labels(), data.count()
    data.read(cut(schema, {"all": ":" if isinstance(schema, TableSchema) else ":, :"})["all"])


def test_several_keys_have_their_own_names() -> None:
    with pytest.raises(ValidationError, match="x: of several keys there is neither x_test nor names"):
        find("data", "npz", Data).model_validate({"path": "a", "x": ["a", "b"], "names": ["c"]})


def test_held_out_features_need_held_out_labels() -> None:
    with pytest.raises(ValidationError, match="x_test and y_test go together"):
        find("data", "npz", Data).model_validate({"path": "a", "x_test": "t"})


# -- from libraries


@pytest.mark.parametrize(
    ("name", "rows", "columns", "classes"),
    [("breast_cancer", 569, 30, 2), ("iris", 150, 4, 3), ("wine", 178, 13, 3)],
)
def test_tables_of_scikit_learn(name: str, rows: int, columns: int, classes: int) -> None:
    data = make(kind="sklearn", name=name)
    schema = data.schema()
    assert isinstance(schema, TableSchema)
    assert (data.count(), len(schema.columns), len(set(data.labels()))) == (rows, columns, classes)
    assert len(data.read(TablePart(schema.columns[1:3]))) == rows


def test_breast_cancer_is_cut_as_fate_cuts_it() -> None:
    data = make(kind="sklearn", name="breast_cancer")
    parts = cut(data.schema(), {"guest": "worst *", "host": ["mean *", "* error"]})
    assert np.shape(data.read(parts["guest"])) == (569, 10)
    assert np.shape(data.read(parts["host"])) == (569, 20)


@pytest.mark.parametrize(
    ("settings", "shape", "rows"),
    [({"kind": "sklearn", "name": "digits"}, (1, 8, 8), 1797), ({"kind": "mnist5k"}, (1, 28, 28), 5000)],
)
def test_images_of_libraries(settings: dict[str, Any], shape: tuple[int, int, int], rows: int) -> None:
    data = make(**settings)
    assert data.schema() == ImageSchema(shape)
    assert data.count() == rows
    images = data.read(ImagePart((0, 4), (2, 8)))
    assert isinstance(images, np.ndarray)
    assert (images.shape, images.dtype) == ((rows, 1, 4, 6), np.float32)
    whole = data.read(ImagePart((0, shape[1]), (0, shape[2])))
    assert (np.min(whole), np.max(whole)) == (0, 1)
    assert set(data.labels()) == set(range(10))


def test_synthetic_data_is_seeded_and_learnable() -> None:
    from sklearn.linear_model import LogisticRegression

    data = make(kind="synthetic", count=2000, features=6, informative=4, imbalance=0.1, noise=0.0)
    x, y = data.read(TablePart(tuple(f"x{k}" for k in range(6)))), data.labels()
    assert y.mean() == pytest.approx(0.1, abs=0.01)
    assert LogisticRegression().fit(x, y).score(x, y) > 0.93
    other = make(kind="synthetic", count=2000, features=6, informative=4, imbalance=0.1, noise=0.0, seed=1)
    np.testing.assert_array_equal(x, make(**data.model_dump()).read(TablePart(tuple(f"x{k}" for k in range(6)))))
    assert not np.array_equal(x, other.read(TablePart(tuple(f"x{k}" for k in range(6)))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": 3, "informative": 4}, "informative: 4 is more than features: 3"),
        ({"informative": 2, "classes": 5}, "5 classes need more than 2 informative columns"),
    ],
)
def test_infeasible_synthetic_data_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        find("data", "synthetic", Data).model_validate(settings)


# -- finding files


def test_files_are_looked_for_here_and_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("FEDSIM_DATA", str(there))
    with pytest.raises(DataError, match=f"no data file 'a.csv'; looked at: {here}/a.csv, {there}/a.csv$"):
        find_file("a.csv")
    (there / "a.csv").touch()
    assert find_file("a.csv") == there / "a.csv"
    (here / "a.csv").touch()
    assert find_file("a.csv") == here / "a.csv"
    assert find_file(str(there / "a.csv")) == there / "a.csv"
    monkeypatch.delenv("FEDSIM_DATA")
    with pytest.raises(DataError, match="FEDSIM_DATA is not set"):
        find_file(str(there))


# -- the real files


@SHARED
def test_adult() -> None:
    data = make(kind="csv", path="adult.csv.gz", label="income", split={"column": "split", "test": "test"})
    parts = cut(data.schema(), {"person": "age, fnlwgt:education_num, marital_status, relationship:sex",
                                "work": "workclass, occupation, capital_*, hours_per_week:"})  # fmt: skip
    train, test = data.split(RNG)
    assert (len(train), len(test), data.count()) == (32_561, 16_281, 48_842)
    y = LabelEncoder.fit(data.labels()[train]).apply(data.labels())
    assert y.double().mean().item() == pytest.approx(0.24, abs=0.01)
    for part in parts.values():
        table = data.read(part)
        assert isinstance(table, pd.DataFrame)
        x = Encoder.fit(table.iloc[train]).apply(table)
        assert len(x) == 48_842
        assert x.isfinite().all()


@SHARED
@pytest.mark.parametrize(
    ("settings", "rows", "columns"),
    [
        ({"path": "bank_full.csv.gz", "label": "y", "drop": ["duration"]}, 45_211, 15),
        ({"path": "credit_default.csv.gz", "label": "default.payment.next.month", "id": "ID"}, 30_000, 23),
        ({"path": "diabetes130.csv.gz", "label": "readmitted", "drop": ["encounter_id", "patient_nbr"]}, 101_766, 47),
        ({"path": "pima_diabetes.csv.gz", "label": "Outcome"}, 768, 8),
    ],
)
def test_real_tables(settings: dict[str, Any], rows: int, columns: int) -> None:
    data = make(kind="csv", **settings)
    part = cut(data.schema(), {"all": ":"}, data.drop)["all"]
    assert isinstance(part, TablePart)
    assert (data.count(), len(part.columns)) == (rows, columns)
    table = data.read(part)
    assert len(Encoder.fit(table).apply(table)) == len(LabelEncoder.fit(data.labels()).apply(data.labels())) == rows


@SHARED
@pytest.mark.parametrize(
    ("settings", "shape", "split"),
    [
        ({"path": "mnist.npz"}, (1, 28, 28), (60_000, 10_000)),
        ({"path": "usps.npz", "scale": 2000}, (1, 16, 16), (7_291, 2_007)),
        ({"path": "mnist_m_7k.npz"}, (3, 32, 32), (5_000, 2_000)),
    ],
)
def test_real_images(settings: dict[str, Any], shape: tuple[int, int, int], split: tuple[int, int]) -> None:
    data = make(kind="npz", x="x_train", y="y_train", x_test="x_test", y_test="y_test", **settings)
    assert data.schema() == ImageSchema(shape)
    train, test = data.split(RNG)
    assert (len(train), len(test)) == split
    images = data.read(ImagePart((0, shape[1] // 2), (0, shape[2])))
    assert np.shape(images) == (sum(split), shape[0], shape[1] // 2, shape[2])
    assert set(data.labels()) == set(range(10))
