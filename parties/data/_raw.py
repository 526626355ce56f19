"""Tables as their files spell them: cells that no type has been guessed for, and the line that each row came from."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError
from fedsim.parties.cut import absent
from fedsim.parties.data._csv_text import read_cells, read_header
from fedsim.parties.data._encoding import decode_text
from fedsim.parties.data._files import reading
from fedsim.parties.data._typed_files import npz_columns, npz_names, parquet_columns, parquet_names
from fedsim.parties.data._unpack import PARQUET, is_npz, unpack_file

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ReadOptions:
    """How the bytes of a csv file become cells; the other formats know it themselves.

    Attributes:
        separator: the character between two cells.
        encoding: of the text; None: UTF-8, with or without a byte order mark.
        names: the columns of a file without a header line; None: its first line names them.
    """

    separator: str = ","
    encoding: str | None = None
    names: tuple[str, ...] | None = None


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


def read_names(file: Path, options: ReadOptions = ReadOptions(), source: str | None = None) -> list[str]:
    """Return the names of all columns of a file, in their order, without spaces around them and in Unicode's form NFC.

    Raises:
        DataError: the file is damaged, or two columns have one name.
    """
    source = source or str(file)
    with reading(file, "a table"):
        content = unpack_file(file, source)
        return list(_find_names(content, options, source))


def read_raw(file: Path, columns: Sequence[str], source: str, options: ReadOptions = ReadOptions()) -> RawTable:
    """Read some columns of a csv, parquet or npz file; the format is told by the content, not by the ending.

    Raises:
        DataError: the file is damaged or lacks a column, or a line has more or fewer cells than there are columns.
    """
    import pandas as pd

    with reading(file, "a table"):
        content = unpack_file(file, source)
        names = _find_names(content, options, source)
        wanted = [normalise_name(name) for name in columns]
        absent(wanted, names, where=source)
        if _is_typed(content):
            read = parquet_columns if content.startswith(PARQUET) else npz_columns
            found = read(content, [names[name] for name in wanted], source)
            cells = pd.DataFrame(dict(zip(wanted, found.values(), strict=True)))
            lines = np.arange(1, len(cells) + 1, dtype=np.int64)
        else:
            text, positions = decode_text(content, source, options.encoding), list(names)
            at = [positions.index(name) for name in wanted]
            cells, lines = read_cells(text, options.separator, source, len(names), at, options.names is None)
            cells.columns = pd.Index(wanted, dtype=object)
    if not len(cells):
        raise DataError(f"{source} has no rows")
    return RawTable(cells, _is_typed(content), source, lines)


def normalise_name(name: str) -> str:
    """Return the name of a column as it is compared: without spaces around it, in Unicode's form NFC."""
    return unicodedata.normalize("NFC", name).strip()


def _find_names(content: bytes, options: ReadOptions, source: str) -> dict[str, str]:
    """Return the names of all columns, and how the file spells each."""
    if content.startswith(PARQUET):
        spelt = parquet_names(content)
    elif is_npz(content):
        spelt = npz_names(content)
    elif options.names is not None:
        spelt = list(options.names)
    else:
        spelt = read_header(decode_text(content, source, options.encoding), options.separator, source)
    names: dict[str, str] = {}
    for k, spelling in enumerate(spelt):
        name = normalise_name(spelling) or f"Unnamed: {k}"
        if name in names:
            raise DataError(f"{source} has two columns named '{name}'")
        names[name] = spelling
    return names


def _is_typed(content: bytes) -> bool:
    return content.startswith(PARQUET) or is_npz(content)
