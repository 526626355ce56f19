"""Comma-separated text, plain or compressed (.gz, .bz2, .xz, .zip)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from parties.data._table import TableFile

if TYPE_CHECKING:
    import pandas as pd


class Csv(TableFile):
    """A csv file with a header line, plain or compressed; only empty cells are missing."""

    separator: str = Field(",", min_length=1, max_length=1, description="the sign between two cells")

    form: ClassVar[str] = "csv"

    def header(self, file: Path) -> list[str]:
        """The first line; a column without a name is called as pandas calls it, ``Unnamed: 0``."""
        import pandas as pd

        # Read as a row of cells first: as a header, pandas would rename the second of two equal names.
        line = pd.read_csv(file, sep=self.separator, header=None, nrows=1, dtype=str, keep_default_na=False)
        return [name or f"Unnamed: {k}" for k, name in enumerate(line.iloc[0])]

    def load(self, file: Path, columns: Sequence[str]) -> pd.DataFrame:
        """These columns, their types found over all rows at once."""
        import pandas as pd

        # index_col=False: else, if lines end in a comma, pandas takes the first column for an index and shifts names.
        return pd.read_csv(
            file,
            sep=self.separator,
            usecols=list(columns),
            index_col=False,
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
        )
