"""Comma-separated text, plain or compressed (.gz, .bz2, .xz, .zip)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from fedsim.parties.data._formats import csv_cells, csv_header
from fedsim.parties.data._table import TableFile

if TYPE_CHECKING:
    import pandas as pd


class Csv(TableFile):
    """A csv file with a header line, plain or compressed; only empty cells are missing."""

    separator: str = Field(",", min_length=1, max_length=1, description="the sign between two cells")

    form: ClassVar[str] = "csv"

    def header(self, file: Path) -> list[str]:
        """The first line."""
        return csv_header(file, self.separator)

    def load(self, file: Path, columns: Sequence[str]) -> pd.DataFrame:
        """These columns, their types found over all rows at once."""
        return csv_cells(file, columns, self.separator)
