"""Comma-separated text, plain or compressed (gz, bz2, xz, zip, zst)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from fedsim.parties.column_names import ColumnName
from fedsim.parties.data._csv_settings import CsvSettings, check_names
from fedsim.parties.data._formats import csv_cells, csv_header
from fedsim.parties.data._raw import ReadOptions
from fedsim.parties.data._table import TableFile

if TYPE_CHECKING:
    import pandas as pd


class Csv(CsvSettings, TableFile):
    """A csv file, plain or compressed; only empty cells are missing."""

    names: tuple[ColumnName, ...] | None = Field(
        None, description="all columns in their order, of a file without a header line; none: the first line names them"
    )

    _distinct_names = field_validator("names")(check_names)

    form: ClassVar[str] = "csv"

    def options(self) -> ReadOptions:
        """How the file is written."""
        return ReadOptions(self.separator, self.encoding, self.names)

    def header(self, file: Path) -> list[str]:
        """The first line."""
        return csv_header(file, self.separator)

    def load(self, file: Path, columns: Sequence[str]) -> pd.DataFrame:
        """These columns, their types found over all rows at once."""
        return csv_cells(file, columns, self.separator)
