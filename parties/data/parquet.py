"""Apache Parquet, read with pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedsim.errors import DataError
from parties.data import find_file
from parties.data._files import reading
from parties.data._table import TableFile

if TYPE_CHECKING:
    import pandas as pd


class Parquet(TableFile):
    """A parquet file; needs ``pip install fedsim[parquet]``."""

    form: ClassVar[str] = "parquet"

    def header(self, file: Path) -> list[str]:
        """The columns in the file's footer, without an index that pandas stored unnamed."""
        return [name for name in _pyarrow().read_schema(file).names if not name.startswith("__index_level_")]

    def load(self, file: Path, columns: Sequence[str]) -> pd.DataFrame:
        """These columns; an index that pandas stored is a column like any other."""
        table: pd.DataFrame = _pyarrow().read_table(file, columns=list(columns)).to_pandas(ignore_metadata=True)
        return table

    def count(self) -> int:
        """How many rows the file has, from its footer."""
        file = find_file(self.path)
        with reading(file, self.form):
            return int(_pyarrow().read_metadata(file).num_rows)


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("reading parquet files needs pyarrow: pip install fedsim[parquet]") from error
    return pyarrow.parquet
