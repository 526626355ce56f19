"""Apache Parquet, read with pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fedsim.parties.data import find_file
from fedsim.parties.data._files import reading
from fedsim.parties.data._formats import parquet_cells, parquet_header, pyarrow
from fedsim.parties.data._table import TableFile

if TYPE_CHECKING:
    import pandas as pd


class Parquet(TableFile):
    """A parquet file; needs ``pip install 'fedsim-vfl[parquet]'``."""

    form: ClassVar[str] = "parquet"

    def header(self, file: Path) -> list[str]:
        """The columns in the file's footer."""
        return parquet_header(file)

    def load(self, file: Path, columns: Sequence[str]) -> pd.DataFrame:
        """These columns; an index that pandas stored is a column like any other."""
        return parquet_cells(file, columns)

    def count(self) -> int:
        """How many rows the file has, from its footer."""
        file = find_file(self.path)
        with reading(file, self.form):
            return int(pyarrow().read_metadata(file).num_rows)
