"""The formats in which a table of named columns may lie: the names of all columns, and the cells of some."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedsim.distribution import format_install_command
from fedsim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# All of these may raise anything in `UNREADABLE`.


def csv_header(file: Path, separator: str = ",") -> list[str]:
    """The first line; a column without a name is called as pandas calls it, ``Unnamed: 0``."""
    import pandas as pd

    # Read as a row of cells first: as a header, pandas would rename the second of two equal names.
    line = pd.read_csv(file, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False)
    return [name or f"Unnamed: {k}" for k, name in enumerate(line.iloc[0])]


def csv_cells(file: Path, columns: Sequence[str], separator: str = ",", as_text: Collection[str] = ()) -> pd.DataFrame:
    """These columns, their types found over all rows at once; those of ``as_text`` are left as they are written."""
    import pandas as pd

    # index_col=False: else, if lines end in a comma, pandas takes the first column for an index and shifts names.
    return pd.read_csv(
        file,
        sep=separator,
        usecols=list(columns),
        index_col=False,
        keep_default_na=False,
        na_values=[""],
        low_memory=False,
        dtype=dict.fromkeys(as_text, str),
    )


def parquet_header(file: Path) -> list[str]:
    """The columns in the file's footer, without an index that pandas stored unnamed."""
    return [name for name in pyarrow().read_schema(file).names if not name.startswith("__index_level_")]


def parquet_cells(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """These columns; an index that pandas stored is a column like any other."""
    table: pd.DataFrame = pyarrow().read_table(file, columns=list(columns)).to_pandas(ignore_metadata=True)
    return table


def npz_header(file: Path) -> list[str]:
    """The keys of the archive: each array is a column."""
    with np.load(file, allow_pickle=False) as archive:
        return list(archive.files)


def npz_cells(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """These arrays, (n,) each.

    Raises:
        ValueError: they are not columns of one table.
    """
    import pandas as pd

    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in columns}
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "iufbU":
            raise ValueError(f"'{name}' is {array.dtype} of shape {array.shape}; expected numbers or text, (n,)")
    return pd.DataFrame(arrays)


class Form(NamedTuple):
    """A format: its name in errors, how to read the names of all columns, and the cells of some, ids as text."""

    name: str
    header: Callable[[Path], list[str]]
    cells: Callable[[Path, Sequence[str], Collection[str]], pd.DataFrame]


def form_of(file: Path) -> Form:
    """The format by the ending of the name: ``.parquet``, ``.npz``, and csv for anything else."""
    if file.suffix == ".parquet":
        return Form("parquet", parquet_header, lambda file, columns, as_text: parquet_cells(file, columns))
    if file.suffix == ".npz":
        return Form("npz", npz_header, lambda file, columns, as_text: npz_cells(file, columns))
    return Form("csv", csv_header, lambda file, columns, as_text: csv_cells(file, columns, as_text=as_text))


def pyarrow() -> Any:
    """What reads parquet.

    Raises:
        DataError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"reading parquet files needs pyarrow: {format_install_command('parquet')}") from error
    return pyarrow.parquet
