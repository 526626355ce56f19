"""Tables as their files spell them: cells that no type has been guessed for, and the line that each row came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

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


def read_names(file: Path, options: ReadOptions = ReadOptions()) -> list[str]:
    """Return the names of all columns of a file, in their order.

    Raises:
        DataError: the file is damaged, or two columns have one name.
    """
    raise NotImplementedError


def read_raw(file: Path, columns: Sequence[str], source: str, options: ReadOptions = ReadOptions()) -> RawTable:
    """Read some columns of a csv, parquet or npz file; the format is told by the content, not by the ending.

    Raises:
        DataError: the file is damaged or lacks a column, or a line has more or fewer cells than there are columns.
    """
    raise NotImplementedError
