"""Whatever bytes a file holds, reading it gives a table of text or one clear line, and the cells that pyarrow finds."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedsim.errors import DataError
from fedsim.parties.data import _csv_arrow, _csv_records
from fedsim.parties.data._raw import RawTable, ReadOptions, read_names, read_raw

SEPARATORS = ",;\t|"
CELLS = st.text(st.sampled_from('ab1 ,;"\n\r\t.-é€𝄞\u00a0'), max_size=6) | st.sampled_from(
    ["", "0", "1.5", "-2e3", "1,234", " 7 ", "NA", "x" * 40, '"', '""', "2020-01-02"]
)
EXAMPLES = settings(
    max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def csv_texts(draw: st.DrawFn) -> tuple[bytes, str]:
    """A csv file as some program may write it, then perhaps damaged; and its separator."""
    separator = draw(st.sampled_from(SEPARATORS))
    width, height = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerow([f"c{k}" for k in range(width)])
    for _ in range(height):
        writer.writerow([draw(CELLS) for _ in range(width)])
    content = bytearray(out.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        cut = draw(st.integers(0, 2))
        content[at : at + cut] = draw(st.binary(max_size=2) | st.sampled_from([b'"', b"\n", b"\r", separator.encode()]))
    whole = bytes(content)
    return (gzip.compress(whole) if draw(st.integers(0, 9)) == 0 else whole), separator


def read_all(file: Path, options: ReadOptions) -> RawTable | str:
    """Everything in a file, or what is wrong with it."""
    try:
        return read_raw(file, read_names(file, options), "t", options)
    except DataError as error:
        return str(error).replace(str(file), "t")


def check(file: Path, content: bytes, separator: str) -> RawTable | str:
    """Read a file in every way that there is: they must agree."""
    file.write_bytes(content)
    options = ReadOptions(separator)
    found = read_all(file, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_csv_records, "LARGE_BYTES", -1)
        patch.setattr(_csv_records, "BATCH_ROWS", 2)
        patch.setattr(_csv_arrow, "CHUNK_BYTES", 7)
        check_equal(read_all(file, options), found)
        patch.setattr(_csv_records, "read_with_arrow", lambda *_: None)
        check_equal(read_all(file, options), found)
    if isinstance(found, str):
        assert "\n" not in found
    else:
        assert all(type(cell) is str for cell in found.cells.to_numpy().flat)
        assert len(found.lines) == len(found.cells) > 0
        assert (np.diff(found.lines) > 0).all()
        assert found.lines[0] >= 2
    return found


def check_equal(one: RawTable | str, other: RawTable | str) -> None:
    assert isinstance(one, str) == isinstance(other, str), (one, other)
    if isinstance(one, RawTable) and isinstance(other, RawTable):
        assert one.cells.columns.tolist() == other.cells.columns.tolist()
        assert one.cells.to_numpy().tolist() == other.cells.to_numpy().tolist()
        assert one.lines.tolist() == other.lines.tolist()
    else:
        assert one == other


def read_with_pyarrow(content: bytes, separator: str) -> pd.DataFrame | None:
    """What pyarrow's reader finds where every cell is text, with the header as a row of its own; None: it refuses."""
    arrow, arrow_csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")
    names: list[str] = []
    try:
        width = arrow_csv.read_csv(
            io.BytesIO(content),
            read_options=arrow_csv.ReadOptions(autogenerate_column_names=True),
            parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        ).num_columns
        names = [f"f{k}" for k in range(width)]
        table = arrow_csv.read_csv(
            io.BytesIO(content),
            read_options=arrow_csv.ReadOptions(column_names=names),
            parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, arrow.string()), strings_can_be_null=False
            ),
        )
    except arrow.ArrowException:
        return None
    frame: Any = table.to_pandas()
    return frame


@EXAMPLES
@example(made=(b'c0\n""\n"', ","))
@example(made=(b'c0\n""\n0\n', ","))
@example(made=(b"c0,\n1,\n", ","))
@given(made=csv_texts())
def test_a_damaged_csv_file_is_a_table_or_one_clear_line(made: tuple[bytes, str], tmp_path: Path) -> None:
    content, separator = made
    found, theirs = check(tmp_path / "t.csv", content, separator), read_with_pyarrow(content, separator)
    if isinstance(found, RawTable) and theirs is not None:
        width, cells = found.cells.shape[1], theirs.to_numpy()
        assert found.cells.to_numpy().tolist() == cells[1:, :width].tolist()
        # Separators at the end of every line, in the header line, too, make no column here; to pyarrow they are empty cells.
        assert all(name.strip() == "" for name in cells[0, width:])
        assert (cells[1:, width:] == "").all()


@settings(EXAMPLES, max_examples=300)
@given(content=st.binary(max_size=200), separator=st.sampled_from(SEPARATORS))
def test_random_bytes_are_a_table_or_one_clear_line(content: bytes, separator: str, tmp_path: Path) -> None:
    check(tmp_path / "t.csv", content, separator)
