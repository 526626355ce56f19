"""How the bytes of a table become cells: every encoding, compression and spelling is read right or refused in one line."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import io
import lzma
import tarfile
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedsim.errors import DataError
from fedsim.parties.data import _unpack, find_file
from fedsim.parties.data._raw import RawTable, ReadOptions, read_names, read_raw

TEXT = 'id,größe,name\nA1,1.50,Müller\nA2,-2,"Straße, 5"\n'
CELLS = [["A1", "1.50", "Müller"], ["A2", "-2", "Straße, 5"]]


def read(content: bytes | str, folder: Path, name: str = "t.csv", **options: Any) -> RawTable:
    """All columns of a file with this content; errors name it ``t.csv``."""
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    how = ReadOptions(**options)
    return read_raw(file, read_names(file, how, name), name, how)


def refusal(content: bytes | str, folder: Path, name: str = "t.csv", **options: Any) -> str:
    with pytest.raises(DataError) as error:
        read(content, folder, name, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def cells(table: RawTable) -> list[list[Any]]:
    found: list[list[Any]] = table.cells.to_numpy().tolist()
    return found


# -- encodings


@pytest.mark.parametrize(
    ("written", "encoding"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("utf-8-sig", "utf-8"),
        ("cp1252", "cp1252"),
        ("latin-1", "latin1"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-32-be", "utf-32-be"),
        ("cp037", "cp037"),
    ],
)
def test_text_is_read_in_its_encoding(written: str, encoding: str | None, tmp_path: Path) -> None:
    table = read(TEXT.encode(written), tmp_path, encoding=encoding)
    assert table.cells.columns.tolist() == ["id", "größe", "name"]
    assert cells(table) == CELLS
    assert not table.typed


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_says_the_encoding(mark: str, tmp_path: Path) -> None:
    assert cells(read(("\ufeff" + TEXT).encode(mark), tmp_path)) == CELLS


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            "a,y\n1,2\n3,für\n".encode("cp1252"),
            {},
            "t.csv, line 3: byte 0xfc is not utf-8; the likely encoding is cp1252, in which it is 'ü': "
            "set 'encoding: cp1252', or save the file as UTF-8",
        ),
        (b"a\xfc,y\n1,2\n", {}, "t.csv, line 1: byte 0xfc is not utf-8; the likely encoding is cp1252"),
        ('a,y\r\n"1\r\n",2\r\n3,5 €\r\n'.encode("cp1252"), {}, "t.csv, line 4: byte 0x80 is not utf-8"),
        (b"a,y\n\x81\xfc,2\n", {}, "the likely encoding is latin-1"),
        (
            "a,y\n1,ü\n2,ä\n".encode() + b"3,\xe4\n",
            {},
            "line 4: byte 0xe4 is not utf-8, although the rest of the file is",
        ),
        ("ä,y\n1,2\n".encode(), {"encoding": "ascii"}, "line 1: byte 0xc3 is not ascii; the likely encoding is utf-8"),
        (TEXT.encode("utf-16-le"), {}, "looks like UTF-16 without a byte order mark: set 'encoding: utf-16-le'"),
        (TEXT.encode("utf-16-be"), {}, "looks like UTF-16 without a byte order mark: set 'encoding: utf-16-be'"),
        (b"a,y\n1,2\n\n3,\x004\n", {}, "t.csv, line 4: a NUL byte"),
        ("a,y\n1,\0".encode("utf-16"), {}, "t.csv, line 2: a NUL character"),
        (b"a,y\n1,\0\n", {"encoding": "latin-1"}, "t.csv, line 2: a NUL character"),
        (bytes(range(1, 256)) * 9, {}, "the file is damaged or is no table of text"),
    ],
)
def test_what_is_not_in_the_encoding_is_named(
    content: bytes, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(content, tmp_path, **options)


def test_a_byte_beyond_the_first_megabyte_is_found(tmp_path: Path) -> None:
    long = b"a,y\n" + b"1.25,0\n" * 200_000
    assert "t.csv, line 200002: byte 0xe9" in refusal(long + b"2,\xe9\n", tmp_path)
    # The first megabyte, from which the names are read, may end within a character.
    wide = "a,y\n" + "é,0\n" * 300_000
    assert [len(read(" " * k + wide, tmp_path).cells) for k in (0, 1)] == [300_000] * 2


# -- compression and formats, by content


def zipped(*names: str) -> Callable[[bytes], bytes]:
    def compress(content: bytes) -> bytes:
        with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
            for name in names:
                archive.writestr(name, content)
        return out.getvalue()

    return compress


def tarred(content: bytes) -> bytes:
    with tarfile.open(fileobj=(out := io.BytesIO()), mode="w:gz") as archive:
        member = tarfile.TarInfo("t.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zst(content: bytes) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


def parquet(content: bytes) -> bytes:
    pytest.importorskip("pyarrow")
    pd.read_csv(io.BytesIO(content), dtype=str).to_parquet(out := io.BytesIO())
    return out.getvalue()


@pytest.mark.parametrize("ending", ["csv", "gz", "zip", "zst", "PARQUET", "pq", "txt", "npz", "dat"])
@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zst,
        lambda content: zst(content[:20]) + zst(content[20:]),
        lambda content: gzip.compress(content[:20]) + gzip.compress(content[20:]),
        zipped("t.csv"),
        zipped("__MACOSX/._t.csv", "data/", "data/t.csv", "data/.DS_Store"),
        tarred,
        lambda content: gzip.compress(zipped("t")(content)),
        parquet,
        lambda content: gzip.compress(parquet(content)),
    ],
)
def test_the_content_says_the_format_and_not_the_ending(
    compress: Callable[[bytes], bytes], ending: str, tmp_path: Path
) -> None:
    assert cells(read(compress(TEXT.encode()), tmp_path, f"t.{ending}")) == CELLS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv is empty"),
        (gzip.compress(b""), "t.csv is empty"),
        (b"\n \n\n", "t.csv has nothing but blank lines"),
        (b"a,y\n", "t.csv has no rows"),
        (b"a,y", "t.csv has no rows"),
        (zipped("a.csv", "b.csv")(b"a\n1\n"), "archive of 2 files ('a.csv', 'b.csv'); expected one"),
        (zipped()(b""), "t.csv is an archive of no files"),
        (zipped("[Content_Types].xml", "xl/workbook.xml")(b"<x/>"), "t.csv is an Excel workbook"),
        (gzip.compress(b"a,y\n" * 99)[:-9], "t.csv cannot be read as a table: Compressed file ended before"),
        (b"PAR1" + b"x" * 40, "t.csv cannot be read as a table"),
        (b"PK\x03\x04" + b"x" * 40, "t.csv cannot be read as a table: File is not a zip file"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 40, "t.csv cannot be read as a table"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 40, "t.csv is an old Excel workbook"),
        (b"\x89HDF\r\n\x1a\n", "t.csv is an HDF5 file"),
        (b"\n<!DOCTYPE html>\n<html>", "t.csv is a web page"),
        (b'{"a": [1, 2]}', "t.csv is a JSON file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "t.csv is a Git LFS pointer"),
    ],
)
def test_a_file_that_is_no_table_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    assert message in refusal(content, tmp_path)


def test_files_within_files_have_an_end(tmp_path: Path) -> None:
    content = b"a,y\n1,2\n"
    for _ in range(4):
        content = gzip.compress(content)
    assert cells(read(content, tmp_path)) == [["1", "2"]]
    assert "compressed more than 4 times" in refusal(gzip.compress(content), tmp_path)


def test_zst_without_anything_that_reads_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zst(TEXT.encode())
    monkeypatch.setattr(_unpack, "ZST_MODULES", (("no_such_module", lambda module, content: content),))
    assert "reading zst files needs pyarrow or zstandard: pip install 'fedsim-vfl[parquet]'" in refusal(
        content, tmp_path
    )


def test_a_folder_is_no_data_file(tmp_path: Path) -> None:
    for path in (str(tmp_path), "x" * 5000, "~nobody-has-this-name/t.csv"):
        with pytest.raises(DataError) as error:
            find_file(path)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"no data file .* \(a folder\)"):
        find_file(str(tmp_path))


# -- records and lines


@pytest.mark.parametrize(
    ("content", "rows", "lines"),
    [
        ("a,b\n1,2\n3,4\n", [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b\n1,2\n3,4", [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b\r\n1,2\r\n3,4\r\n", [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b\r1,2\r3,4\r", [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b\n1,2\n\n \t\n3,4\n\n\n", [["1", "2"], ["3", "4"]], [2, 5]),
        ("\n\na,b\n1,2\n", [["1", "2"]], [4]),
        ('a,b\n"1\n\n",2\n3,4\n', [["1\n\n", "2"], ["3", "4"]], [2, 5]),
        ('a,b\n"1\r\n,",2\r\n3,4\n', [["1\r\n,", "2"], ["3", "4"]], [2, 4]),
        ('"a",b\n"1""2","""x"""\n,\n', [['1"2', '"x"'], ["", ""]], [2, 3]),
        ('a,b\n5" pipe,2\n"x"y,2\n', [['5" pipe', "2"], ["xy", "2"]], [2, 3]),
        ("a,b\n 1 ,NA\n007,+1e3\n", [[" 1 ", "NA"], ["007", "+1e3"]], [2, 3]),
        ('a\n1\n\n""\n2\n', [["1"], [""], ["2"]], [2, 4, 5]),
        ("a,b\n1,2,\n3,4,\n", [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b,\n1,2,\n3,4,\n", [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b,,\n1,2,,\n3,4,,\n", [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b,\n1,2\n3,4\n", [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b\n" + "1,2\n" * 3 + "\u2028,\x0b\n", [["1", "2"]] * 3 + [["\u2028", "\x0b"]], [2, 3, 4, 5]),
    ],
)
def test_records_keep_their_cells_and_their_lines(
    content: str, rows: list[list[str]], lines: list[int], tmp_path: Path
) -> None:
    table = read(content, tmp_path)
    assert table.cells.columns.tolist() == ["a", "b"][: len(rows[0])]
    assert cells(table) == rows
    assert table.lines.tolist() == lines
    assert table.describe_place(len(rows) - 1) == f"t.csv, line {lines[-1]}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a,b,y\n1,2,0\n1,1,234,0\n3,4,1\n",
            "t.csv, line 3: 4 cells, but the header line names 3 columns; cells 2 and 3 look like one number with "
            'a thousands separator: put it in quotes, "1,234"',
        ),
        ("a,b,y\n1,2,0\nx,$12,500,0\n3,4,1\n", "cells 2 and 3 look like one number with a thousands separator"),
        (
            "a,b,y\n1,2,x\nx,1,5,x\n3,4,x\n",
            'cells 2 and 3 look like one number with a decimal comma: put it in quotes, "1,5"',
        ),
        (
            "a,b\n1,2\nx,y,z\n",
            "line 3: 3 cells, but the header line names 2 columns; a cell that holds ',' needs quotes",
        ),
        ("a,b,y\n1,2,0\n1,1,5,0\n", "a cell that holds ',' needs quotes (\"...\"), also a number such as"),
        ("a;b\n1;2\nx;y;z\n", "a cell that holds ';' needs quotes"),
        ("a,b\n1,2,\n3,4\n", "t.csv, line 2: 3 cells, but the header line names 2 columns; the last cells are empty"),
        ("a,b\n1,2,\n3,4,,\n", "t.csv, line 2: 3 cells"),
        ("a,b\n1,2\n3\n", "t.csv, line 3: 1 cell, but the header line names 2 columns; cells are missing"),
        ("a,b\n1,2\n3;4\n", "t.csv, line 3: 1 cell, but the header line names 2 columns; it is separated by ';' and"),
        ("a,b,c\n1,2,3\n4,x\ny,5\n", "it may go on in the next line: a cell with a line break"),
        ("a,b\n1,2,3\n4,5,6\n", "every line has one cell more: perhaps names of rows"),
        ("Weights 2020\n1,2\n3,4\n", "the first line has to name the columns; perhaps a title or a comment"),
        ("a,b,c\n1,2\n3,4\n", "t.csv, line 2: 2 cells, but the header line names 3 columns"),
        ('a,b\n"1\n",2\n3,4\n5\n', "t.csv, line 5: 1 cell"),
        ('a,b\n1,2\n"3,4\n5,6\n', 't.csv, line 3: a quote (") is opened in this record and never closed'),
        ('a,b\n1,2\n3,"', 't.csv, line 3: a quote (") is opened in this record and never closed'),
        ('a\n1\n"', 't.csv, line 3: a quote (") is opened in this record and never closed'),
        ("a;b;y\n1,5;2;0\n2,5;3;1\n", "no line is separated by ','; they look separated by ';': set 'separator'"),
        ("a\tb\n1\t2\n", "they look separated by '\\t' (tab)"),
        ("a|b\n1|2\n", "they look separated by '|'"),
        ("sep=;\na;b\n1;2\n", "the first line is a note to Excel"),
    ],
)
def test_a_ragged_file_is_refused_with_the_likely_cause(content: str, message: str, tmp_path: Path) -> None:
    options = {"separator": ";"} if content.startswith("a;b\n") else {}
    assert message in refusal(content, tmp_path, **options)


def test_no_cell_of_a_ragged_line_is_shown(tmp_path: Path) -> None:
    """An error may leave the seat, and the cell may be an id."""
    assert "secret" not in refusal("id,y\n1,2\nsecret,3,secret\n", tmp_path)


def test_lines_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    content = "a,b\n" + "1,2\n" * 3 + "1,2,3\n" * 200
    assert "t.csv, line 5: 3 cells" in (found := refusal(content, tmp_path))
    assert "(200 of 203 rows do not fit, also in line 6, 7, 8, ...)" in found


def test_long_cells_and_many_columns_are_read(tmp_path: Path) -> None:
    assert cells(read(f"a,b\n{'x' * 300_000},1\n", tmp_path)) == [["x" * 300_000, "1"]]
    names = [f"gene {k}" for k in range(20_000)]
    row = ",".join(str(k) for k in range(20_000))
    table = read(",".join(names) + "\n" + f"{row}\n" * 3, tmp_path)
    assert table.cells.columns.tolist() == names
    assert cells(table)[2][::6000] == ["0", "6000", "12000", "18000"]


@pytest.mark.parametrize("compact", [False, True])
def test_only_the_columns_that_are_asked_for_are_kept(
    compact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.parties.data._csv_records.LARGE_BYTES", -1 if compact else 1 << 20)
    (tmp_path / "t.csv").write_text('c,a,b\n1,2,3\n4,"5\n",6\n')
    table = read_raw(tmp_path / "t.csv", [" b", "a"], "t.csv")
    assert table.cells.columns.tolist() == ["b", "a"]
    assert cells(table) == [["3", "2"], ["6", "5\n"]]
    assert all(type(cell) is str for cell in table.cells.to_numpy().flat)
    part = table.take_rows(np.array([1])).take_columns(["a"])
    assert (cells(part), part.lines.tolist(), part.describe_place(0)) == ([["5\n"]], [3], "t.csv, line 3")
    with pytest.raises(DataError, match="t has no column 'bb'; did you mean 'b'"):
        read_raw(tmp_path / "t.csv", ["bb"], "t")


# -- names of columns


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (" age , pay\t", ["age", "pay"]),
        ("gro\u0308\u00dfe,x", ["größe", "x"]),
        ("\u00a0a\u00a0,b", ["a", "b"]),
        (",b", ["Unnamed: 0", "b"]),
        ('" ",b', ["Unnamed: 0", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ("0,1", ["0", "1"]),
        ("2019,2020", ["2019", "2020"]),
        ("\u212b,b", ["\u00c5", "b"]),
    ],
)
def test_names_are_compared_without_spaces_and_in_one_form(header: str, names: list[str], tmp_path: Path) -> None:
    table = read(f"{header}\n1,2\n", tmp_path)
    assert table.cells.columns.tolist() == names
    assert cells(read_again(tmp_path, header.split(",")[:1] if '"' not in header and header[0] != "," else names)) != []


def read_again(folder: Path, names: list[str]) -> RawTable:
    """The scenario may spell a name as the file does, too."""
    return read_raw(folder / "t.csv", names, "t.csv")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a,b,a", "t.csv has two columns named 'a': column 1 and column 3; give each a name"),
        ("a,b, a", "two columns named 'a': column 1 and column 3, written 'a' and ' a'"),
        ("\u00e4,x,a\u0308", "two columns named 'ä': column 1 and column 3, written"),
        ("Unnamed: 1,,c", "two columns named 'Unnamed: 1': column 1 and column 2"),
        ("5.1,3.5,5.1", "if its first line is a row of data and no header line, name the columns with 'names'"),
    ],
)
def test_two_columns_of_one_name_are_refused(header: str, message: str, tmp_path: Path) -> None:
    assert message in refusal(f"{header}\n1,2,3\n", tmp_path)


def test_files_without_a_header_line(tmp_path: Path) -> None:
    content = "5.1,3.5,a\n4.9,3.0,b\n"
    table = read(content, tmp_path, names=("length", " width", "kind"))
    assert table.cells.columns.tolist() == ["length", "width", "kind"]
    assert (cells(table), table.lines.tolist()) == ([["5.1", "3.5", "a"], ["4.9", "3.0", "b"]], [1, 2])
    assert cells(read("1;2;\n", tmp_path, names=("a", "b"), separator=";")) == [["1", "2"]]
    assert "'names' names 2 columns, but the first line has 3 cells" in refusal(content, tmp_path, names=("a", "b"))
    assert "names 4 columns, but the first line has 3 cells" in refusal(content, tmp_path, names=tuple("abcd"))
    assert "line 2: 2 cells, but 'names' names 3 columns" in refusal("1,2,3\n4,5\n", tmp_path, names=tuple("abc"))
    assert "holds the names of the columns already" in refusal("a, b\n1,2\n", tmp_path, names=("a", "b"))
    with pytest.raises(DataError, match="no column 'kind'; if its first line is a row of data"):
        read_raw(tmp_path / "t.csv", ["kind"], "t") if (tmp_path / "t.csv").write_text(content) else None


# -- parquet


def arrow(folder: Path, **columns: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


def parquet_cases() -> dict[str, tuple[Any, str, list[Any]]]:
    """By name: what stands in the file, the type it is read as, and the cells."""
    try:
        import pyarrow as pa
    except ImportError:
        return {}
    day, moment = datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 12)
    zone = datetime.timezone(datetime.timedelta(hours=2))
    cents = [decimal.Decimal("1.10"), None, decimal.Decimal("-0.07")]
    long = decimal.Decimal("123456789012345678.25")
    hour = pd.Timedelta(hours=1)
    return {
        "decimal128": (pa.array(cents, pa.decimal128(9, 2)), "float64", [1.1, None, -0.07]),
        "decimal256": (pa.array(cents, pa.decimal256(60, 2)), "float64", [1.1, None, -0.07]),
        "long decimal": (pa.array([long], pa.decimal128(38, 2)), "float64", [float(long)]),
        "whole decimal": (pa.array([decimal.Decimal(2**60 + 1)], pa.decimal128(38, 0)), "int64", [2**60 + 1]),
        "huge decimal": (pa.array([decimal.Decimal(10**30)], pa.decimal128(38, 0)), "float64", [1e30]),
        "dictionary": (pa.array(["x", "y", None]).dictionary_encode(), "str", ["x", "y", None]),
        "dictionary of numbers": (pa.array([5, 7, 5]).dictionary_encode(), "int64", [5, 7, 5]),
        "int": (pa.array([1, -2], pa.int8()), "int8", [1, -2]),
        "unsigned": (pa.array([2**64 - 1, 0], pa.uint64()), "uint64", [2**64 - 1, 0]),
        "int with a missing cell": (pa.array([2**60 + 1, None]), "Int64", [2**60 + 1, None]),
        "unsigned with a missing cell": (pa.array([7, None], pa.uint16()), "UInt16", [7, None]),
        "bool": (pa.array([True, False]), "bool", [True, False]),
        "bool with a missing cell": (pa.array([True, None]), "boolean", [True, None]),
        "half": (pa.array(np.array([1.5, 2], np.float16)), "float32", [1.5, 2.0]),
        "float": (pa.array([1.5, None], pa.float32()), "float32", [1.5, None]),
        "date": (pa.array([day, None]), "datetime64[ms]", [pd.Timestamp(day), None]),
        "date64": (pa.array([day], pa.date64()), "datetime64[ms]", [pd.Timestamp(day)]),
        "moment": (pa.array([moment], pa.timestamp("us")), "datetime64[us]", [pd.Timestamp(moment)]),
        "moment in a zone": (
            pa.array([moment.replace(tzinfo=zone)], pa.timestamp("us", "+02:00")),
            "datetime64[us]",
            [pd.Timestamp(moment) - 2 * hour],
        ),
        "time": (pa.array([datetime.time(1)], pa.time64("us")), "timedelta64[us]", [hour]),
        "time32": (pa.array([datetime.time(1), None], pa.time32("ms")), "timedelta64[ms]", [hour, None]),
        "duration": (pa.array([hour], pa.duration("ms")), "timedelta64[ms]", [hour]),
        "large text": (pa.array(["é", None], pa.large_string()), "str", ["é", None]),
        "text view": (pa.array(["é", ""], pa.string_view()), "str", ["é", ""]),
        "nothing": (pa.nulls(2), "float64", [None, None]),
    }


PARQUET = parquet_cases()


@pytest.mark.parametrize("name", PARQUET)
def test_types_of_parquet_become_plain_ones(name: str, tmp_path: Path) -> None:
    column, dtype, expected = PARQUET[name]
    file = arrow(tmp_path, x=column)
    assert read_names(file) == ["x"]
    table = read_raw(file, ["x"], "t.parquet")
    found = table.cells["x"]
    assert str(found.dtype) == dtype or (dtype == "str" and found.dtype == pd.Series(["a"]).dtype)
    assert [None if pd.isna(cell) else cell for cell in found] == expected
    assert table.typed
    assert table.describe_place(len(expected) - 1) == f"t.parquet, row {len(expected)}"


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([[1, 2], None], "list<"),
        ([{"a": 1}], "struct<"),
        ([b"\x00\xff", None], "binary"),
        ([[("k", 1)]], "map<"),
    ],
)
def test_cells_that_are_no_values_are_refused_in_parquet(cells: list[Any], kind: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    types = {"map<": pyarrow.map_(pyarrow.string(), pyarrow.int64())}
    file = arrow(tmp_path, x=pyarrow.array(cells, types.get(kind)), y=pyarrow.array([1] * len(cells)))
    assert read_names(file) == ["x", "y"]
    assert len(read_raw(file, ["y"], "t.parquet").cells) == len(cells), "nobody asks for the other"
    with pytest.raises(DataError) as error:
        read_raw(file, ["y", "x"], "t.parquet")
    assert f"column 'x' of t.parquet holds {kind}" in str(error.value)
    assert "allowed: numbers, booleans, text, dates, times and durations: leave it out" in str(error.value)
    assert "\n" not in str(error.value)


def test_names_in_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "year=2020"
    folder.mkdir()
    file = arrow(folder, **{" a ": [1], "a.b": [2], "gro\u0308\u00dfe": [3]})
    assert read_names(file) == ["a", "a.b", "größe"], "the folder is no column"
    assert cells(read_raw(file, ["größe ", "a.b", "a"], "t")) == [[3, 2, 1]]
    with pytest.raises(DataError, match=r"two columns named 'a': column 1 and column 2, written 'a' and 'a '"):
        read_names(arrow(folder, **{"a": [1], "a ": [2]}))
    pd.DataFrame({"a": [1, 2]}, index=[5, 7]).to_parquet(file)
    assert read_names(file) == ["a"], "an index that pandas stored"


def test_text_in_parquet_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    wrong = pyarrow.array([b"a", b"\xff"]).view(pyarrow.string())
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_raw(arrow(tmp_path, x=wrong), ["x"], "t.parquet")


def test_uuids_in_parquet_are_text(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    one = uuid.UUID("12345678-1234-5678-1234-567812345678")
    file = arrow(
        tmp_path,
        x=pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), pyarrow.array([one.bytes, None], pyarrow.binary(16))),
    )
    assert read_raw(file, ["x"], "t").cells["x"].iloc[0] == str(one)


# -- npz


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1, 2], ">i4"), "int32"),
        (np.array([1, 2], np.uint8), "uint8"),
        (np.array([1, 2], np.float16), "float32"),
        (np.array([1, 2], np.longdouble), "float64"),
        (np.array([True, False]), "bool"),
        (np.array(["2020-01-02", "NaT"], "M8[D]"), "datetime64[s]"),
        (np.array([1, 2], "m8[h]"), "timedelta64[s]"),
        (np.array([1, 2], ">m8[ms]"), "timedelta64[ms]"),
    ],
)
def test_arrays_of_npz_become_columns(array: Any, dtype: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **{" x": array, "y": np.array(["a", "b"])})
    assert read_names(tmp_path / "t.npz") == ["x", "y"]
    table = read_raw(tmp_path / "t.npz", ["x", "y"], "t.npz")
    assert str(table.cells["x"].dtype) == dtype
    np.testing.assert_array_equal(table.cells["x"].to_numpy(), array.astype(dtype))
    assert (table.typed, table.cells["y"].tolist(), table.lines.tolist()) == (True, ["a", "b"], [1, 2])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([{}, 1], object)}, "'x' of t.npz holds Python objects, which are never loaded"),
        ({"x": np.zeros((2, 3))}, "'x' of t.npz is float64 of shape (2, 3); allowed: numbers"),
        ({"x": np.array(5)}, "'x' of t.npz is int64 of shape ()"),
        ({"x": np.array([1j])}, "'x' of t.npz is complex128"),
        ({"x": np.array([b"a"])}, "'x' of t.npz is |S1"),
        ({"x": np.array([1], "m8")}, "'x' of t.npz holds timedelta64 without a unit"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, "t.npz: 'x' has 2 rows and 'y' has 3"),
        ({"x": np.zeros(0)}, "t.npz has no rows"),
        ({"x": np.zeros(2), "x ": np.zeros(2)}, "t.npz has two columns named 'x'"),
    ],
)
def test_arrays_that_are_no_columns_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(file := tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError) as error:
        read_raw(file, read_names(file, source="t.npz"), "t.npz")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
