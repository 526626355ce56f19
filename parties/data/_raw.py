"""Tables as their files spell them: cells that no type has been guessed for, and the line that each row came from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError
from fedsim.parties.column_names import distinguish_names, normalise_name
from fedsim.parties.cut import absent
from fedsim.parties.data._csv_text import ReadOptions, read_csv_columns, read_csv_names
from fedsim.parties.data._files import reading
from fedsim.parties.data._typed_files import read_typed_columns, read_typed_names
from fedsim.parties.data._unpack import open_unpacked

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["RawTable", "ReadOptions", "normalise_name", "read_names", "read_raw"]

COMMA_SEPARATED = ReadOptions()


@dataclass(frozen=True)
class RawTable:
    """Columns of a file before any type is inferred.

    Attributes:
        cells: (n, columns), index 0 to n - 1. From text (csv) every cell is a ``str``, exactly as it is written and ``""``
            where it is empty. From typed formats (parquet, npz) a column has one of these forms: bool, signed or unsigned
            integer, float, text, datetime64, timedelta64 (or pandas' nullable kind of these, where cells are missing).
        typed: whether the file itself gives its columns types.
        source: how errors name the file.
        lines: the place of each row for errors, (n,) int64: of csv the line on which the row begins, from 1; of other
            formats the row, from 1.
    """

    cells: pd.DataFrame
    typed: bool
    source: str
    lines: npt.NDArray[np.int64]

    def take_rows(self, rows: npt.NDArray[np.int64]) -> RawTable:
        """The rows at these positions, in their order."""
        return RawTable(self.cells.iloc[rows].reset_index(drop=True), self.typed, self.source, self.lines[rows])

    def take_columns(self, columns: Sequence[str]) -> RawTable:
        """These columns, in their order."""
        return RawTable(self.cells[list(columns)], self.typed, self.source, self.lines)

    def describe_place(self, row: int) -> str:
        """Where a row of this table lies in its file: ``t.csv, line 6`` or ``t.parquet, row 5``."""
        return f"{self.source}, {'row' if self.typed else 'line'} {self.lines[row]}"


MAX_KEPT_BYTES = 1 << 24
"""The largest file whose table is kept between seats."""
SETTLED_NS = 100_000_000
"""A file that has changed since may change once more without another time of its change: its table is not kept."""
_kept: tuple[tuple[Any, ...], RawTable] | None = None
"""The table that was read last, by its file and how it was read; nobody writes to it."""


def read_names(file: Path, options: ReadOptions = COMMA_SEPARATED, source: str | None = None) -> list[str]:
    """Return the names of all columns of a file, in their order, as `normalise_name` spells them.

    Of a csv file only the beginning is read.

    Raises:
        DataError: the file is damaged, or two columns have one name.
    """
    source = source or str(file)
    if _kept is not None and _kept[0] == _key_of(file, options):
        return list(_kept[1].cells.columns)
    with reading(source, "a table"), open_unpacked(file, source) as stream:
        if spelt := _typed_names(stream, source):
            return list(spelt)
        return read_csv_names(stream, options, source)


def read_raw(file: Path, columns: Sequence[str], source: str, options: ReadOptions = COMMA_SEPARATED) -> RawTable:
    """Read some columns of a csv, parquet or npz file; the format is told by the content, not by the ending.

    Raises:
        DataError: the file is damaged, lacks a column or has no rows, a column holds what is no cell of a table, or a line
            has more or fewer cells than there are columns.
    """
    import pandas as pd

    wanted = [normalise_name(name) for name in columns]
    if (whole := _keep_whole(file, source, options)) is not None:
        absent(wanted, whole.cells.columns, where=source)
        return replace(whole.take_columns(wanted), source=source)
    with reading(source, "a table"), open_unpacked(file, source) as stream:
        spelt = _typed_names(stream, source)
        if spelt is None:
            cells, lines = read_csv_columns(stream, wanted, options, source)
        else:
            absent(wanted, spelt, where=source)
            cells = read_typed_columns(stream, {name: spelt[name] for name in wanted}, source)
            lines = np.arange(1, len(cells) + 1, dtype=np.int64)
    cells.columns = pd.Index(wanted, dtype=object)
    if not len(cells):
        raise DataError(f"{source} has no rows")
    return RawTable(cells, spelt is not None, source, lines)


def _keep_whole(file: Path, source: str, options: ReadOptions) -> RawTable | None:
    """The whole table of a small csv file: it is parsed once for all seats of this process that read it one after the other.

    None for a large file and for a format whose columns are read one by one.
    """
    import pandas as pd

    global _kept
    key = _key_of(file, options)
    if _kept is not None and _kept[0] == key:
        return _kept[1]
    if key is None or key[1] > MAX_KEPT_BYTES:
        return None
    with reading(source, "a table"), open_unpacked(file, source) as stream:
        if _typed_names(stream, source) is not None:
            return None
        names = read_csv_names(stream, options, source)
        stream.seek(0)
        cells, lines = read_csv_columns(stream, names, options, source)
    cells.columns = pd.Index(names, dtype=object)
    if not len(cells):
        raise DataError(f"{source} has no rows")
    whole = RawTable(cells, False, source, lines)
    if time.time_ns() - key[2] > SETTLED_NS:
        _kept = (key, whole)
    return whole


def _key_of(file: Path, options: ReadOptions) -> tuple[Any, ...] | None:
    """What is another as soon as the file is another or is read in another way; None where nothing can be said of the file."""
    try:
        about = file.stat()
    except OSError:
        return None
    return file.absolute(), about.st_size, about.st_mtime_ns, about.st_ino, options


def _typed_names(stream: IO[bytes], source: str) -> dict[str, str] | None:
    """Return the columns of parquet and npz files and how the file spells them; None: the file is text."""
    names = read_typed_names(stream)
    return None if names is None else distinguish_names(names, source)
