"""Comma-separated text, plain or compressed (gz, bz2, xz, zip, zst)."""

from __future__ import annotations

from pydantic import Field, field_validator

from fedsim.parties.column_names import ColumnName
from fedsim.parties.data._csv_settings import CsvSettings, check_names
from fedsim.parties.data._raw import ReadOptions
from fedsim.parties.data._table import TableFile


class Csv(CsvSettings, TableFile):
    """A csv file, plain or compressed; empty cells are missing."""

    names: tuple[ColumnName, ...] | None = Field(
        None, description="all columns in their order, of a file without a header line; none: the first line names them"
    )

    _distinct_names = field_validator("names")(check_names)

    def options(self) -> ReadOptions:
        """How the file is written."""
        return ReadOptions(self.separator, self.encoding, self.names)
