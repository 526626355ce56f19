"""Read columns of parquet and npz files in a few plain forms: numbers, booleans, text, dates and durations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def parquet_names(content: bytes) -> list[str]:
    """Return the columns in the footer, without an index that pandas stored unnamed."""
    names = import_parquet().ParquetFile(io.BytesIO(content)).schema_arrow.names
    return [name for name in names if not name.startswith("__index_level_")]


def parquet_columns(content: bytes, names: Sequence[str], source: str) -> dict[str, pd.Series[Any]]:
    """Return some columns; DataError names one whose type is no cell of a table."""
    table = import_parquet().ParquetFile(io.BytesIO(content)).read(columns=list(names))
    return {name: _plain_column(table.column(name), f"column '{name}' of {source}") for name in names}


def npz_names(content: bytes) -> list[str]:
    """Return the keys of the archive: each array is a column."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return list(archive.files)


def npz_columns(content: bytes, names: Sequence[str], source: str) -> dict[str, pd.Series[Any]]:
    """Return some arrays, (n,) each; DataError names one that is no column of a table."""
    import pandas as pd

    columns: dict[str, pd.Series[Any]] = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        for name in names:
            array = archive[name]
            if array.ndim != 1 or array.dtype.kind not in "iufbUMm":
                found = f"{array.dtype} of shape {array.shape}"
                raise DataError(f"'{name}' of {source} is {found}; expected numbers, text, dates or durations, (n,)")
            columns[name] = pd.Series(array)
    return columns


def import_parquet() -> Any:
    """Return what reads parquet; DataError if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("reading parquet files needs pyarrow: pip install fedsim[parquet]") from error
    return pyarrow.parquet


def _plain_column(column: Any, where: str) -> pd.Series[Any]:
    """Turn a column of Arrow into one of the forms of a raw table."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = column.type
    if kinds.is_dictionary(kind):
        return _plain_column(column.cast(kind.value_type), where)
    if kinds.is_decimal(kind):
        return _plain_column(column.cast(pa.string()).cast(pa.float64()), where)
    if kinds.is_time(kind):
        whole = pa.int32() if kinds.is_time32(kind) else pa.int64()
        return _plain_column(column.cast(whole).cast(pa.int64()).cast(pa.duration(kind.unit)), where)
    if kinds.is_timestamp(kind) and kind.tz is not None:
        return _plain_column(column.cast(pa.timestamp(kind.unit)), where)
    if kinds.is_null(kind):
        return pd.Series(np.full(len(column), np.nan))
    nullable: dict[Any, Any] = {}
    if column.null_count and kinds.is_boolean(kind):
        nullable = {kind: pd.BooleanDtype()}
    elif column.null_count and kinds.is_integer(kind):
        nullable = {kind: pd.api.types.pandas_dtype(str(kind).replace("u", "U").replace("i", "I"))}
    plain = (
        kinds.is_boolean, kinds.is_integer, kinds.is_floating, kinds.is_string, kinds.is_large_string,
        kinds.is_string_view, kinds.is_date, kinds.is_timestamp, kinds.is_duration,
    )  # fmt: skip
    if not any(fits(kind) for fits in plain):
        allowed = "allowed: numbers, booleans, text, dates, times"
        raise DataError(f"{where} holds {kind}; {allowed}: spread it over columns of its own, or leave it out")
    series: pd.Series[Any] = column.to_pandas(date_as_object=False, types_mapper=nullable.get)
    return series.astype(np.float32) if kinds.is_float16(kind) else series
