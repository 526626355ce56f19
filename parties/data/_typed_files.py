"""Read columns of parquet and npz files in a few plain forms: numbers, booleans, text, dates and durations."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedsim.distribution import format_install_command
from fedsim.errors import DataError
from fedsim.parties.data._unpack import is_npz, is_parquet

if TYPE_CHECKING:
    import pandas as pd

ALLOWED = "allowed: numbers, booleans, text, dates, times and durations"
ADVICE = "leave it out, or write its values into columns of their own"


def read_typed_names(stream: IO[bytes]) -> list[str] | None:
    """Return the names of all columns of a parquet or npz file as it spells them; None if the file is neither."""
    stream.seek(0)
    parquet = is_parquet(stream.read(4))
    stream.seek(0)
    if parquet:
        return _parquet_names(stream)
    if not is_npz(stream):
        return None
    with np.load(stream, allow_pickle=False) as archive:
        return list(archive.files)


def read_typed_columns(stream: IO[bytes], spelt: Mapping[str, str], source: str) -> pd.DataFrame:
    """Return some columns of a parquet or npz file.

    Args:
        stream: the file.
        spelt: by name, how the file spells the column.
        source: how errors name the file.

    Raises:
        DataError: a column holds what is no cell of a table.
    """
    import pandas as pd

    stream.seek(0)
    read = _read_parquet if is_parquet(stream.read(4)) else _read_npz
    stream.seek(0)
    columns = read(stream, list(spelt.values()), source)
    return pd.DataFrame(dict(zip(spelt, columns, strict=True)), copy=False)


def import_parquet() -> Any:
    """Return what reads parquet; DataError if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"reading parquet files needs pyarrow: {format_install_command('parquet')}") from error
    return pyarrow.parquet


def _parquet_names(stream: IO[bytes]) -> list[str]:
    """Return the columns in the footer, without an index that pandas stored unnamed."""
    names = import_parquet().read_schema(stream).names
    return [name for name in names if not name.startswith("__index_level_")]


def _read_parquet(stream: IO[bytes], names: Sequence[str], source: str) -> list[pd.Series[Any]]:
    parquet = import_parquet()
    import pyarrow as pa

    try:
        # Not read_table: it would take a folder called year=2020 for a column.
        table = parquet.ParquetFile(stream).read(columns=list(names))
        return [_to_plain_series(table.column(name), f"column '{name}' of {source}") for name in names]
    except (pa.ArrowException, LookupError) as error:  # some of Arrow's errors are also KeyErrors and TypeErrors
        raise ValueError(str(error).strip("'\"")) from error


def _to_plain_series(column: Any, where: str) -> pd.Series[Any]:
    """Turn a chunked array of Arrow into one of the forms of a raw table."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.types as kinds

    column = _unwrap_type(column, where)
    kind = column.type
    column.validate(full=True)  # text that is not UTF-8 would otherwise fail where it is used
    if kinds.is_null(kind):
        return pd.Series(np.full(len(column), np.nan))
    nullable: dict[Any, Any] = {}
    if column.null_count and kinds.is_boolean(kind):
        nullable = {kind: pd.BooleanDtype()}
    elif column.null_count and kinds.is_integer(kind):  # as floats they would lose digits beyond 2**53
        nullable = {kind: pd.api.types.pandas_dtype(str(kind).replace("u", "U").replace("i", "I"))}
    series: pd.Series[Any] = column.to_pandas(date_as_object=False, types_mapper=nullable.get)
    return series.astype(np.float32) if kinds.is_float16(kind) or pa.float16() == kind else series


def _unwrap_type(column: Any, where: str) -> Any:
    """Bring a column to a type of Arrow that pandas has, too, without losing a digit that a number can hold."""
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        if str(kind) == "extension<arrow.uuid>":
            return pa.chunked_array([pa.array([_spell_uuid(cell) for cell in column.to_pylist()], pa.string())])
        return _unwrap_type(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type), where)
    if kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind):
        return _unwrap_type(_decode_values(column), where)
    if kinds.is_decimal(kind):
        return _convert_decimals(column)
    if kinds.is_time(kind):
        whole = column.cast(pa.int32() if kinds.is_time32(kind) else pa.int64()).cast(pa.int64())
        return whole.cast(pa.duration(kind.unit))
    if kinds.is_timestamp(kind):
        return column.cast(pa.timestamp(kind.unit))  # of a time zone: its time in UTC
    if kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return column.cast(pa.large_string())
    plain = (
        kinds.is_boolean, kinds.is_integer, kinds.is_floating, kinds.is_string, kinds.is_date, kinds.is_duration,
        kinds.is_null,
    )  # fmt: skip
    if not any(fits(kind) for fits in plain):
        raise DataError(f"{where} holds {kind}; {ALLOWED}: {ADVICE}")
    return column


def _decode_values(column: Any) -> Any:
    """Return the values of a dictionary-encoded or run-end-encoded column."""
    import pyarrow as pa
    import pyarrow.compute as compute

    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return pa.chunked_array([compute.run_end_decode(chunk) for chunk in column.chunks], column.type.value_type)


def _convert_decimals(column: Any) -> Any:
    """Return decimals as integers if they have no decimal places and fit, otherwise as the nearest floats."""
    import pyarrow as pa

    if column.type.scale <= 0:
        for whole in (pa.int64(), pa.uint64()):
            try:
                return column.cast(whole)
            except pa.ArrowInvalid:
                continue
    # By way of text: Arrow's own conversion of long decimals to floats does not round to the nearest.
    return column.cast(pa.string()).cast(pa.float64())


def _spell_uuid(cell: Any) -> str | None:
    if cell is None:
        return None
    return str(cell if isinstance(cell, uuid.UUID) else uuid.UUID(bytes=cell))


def _read_npz(stream: IO[bytes], names: Sequence[str], source: str) -> list[pd.Series[Any]]:
    import pandas as pd

    arrays: dict[str, npt.NDArray[Any]] = {}
    with np.load(stream, allow_pickle=False) as archive:
        for name in names:
            arrays[name] = _read_array(archive, name, f"'{name}' of {source}")
    lengths = {name: len(array) for name, array in arrays.items()}
    for name, length in lengths.items():
        if length != lengths[names[0]]:
            found = f"'{names[0]}' has {lengths[names[0]]} rows and '{name}' has {length}"
            raise DataError(f"{source}: {found}; expected columns of one table")
    return [pd.Series(array) for array in arrays.values()]


def _read_array(archive: Any, name: str, where: str) -> npt.NDArray[Any]:
    """Return one array as a column; its form is known before its cells are read."""
    try:
        array: npt.NDArray[Any] = archive[name]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{where} holds Python objects, which are never loaded; {ALLOWED}") from error
        raise
    if array.ndim != 1 or array.dtype.kind not in "iufbUMm":
        raise DataError(f"{where} is {array.dtype} of shape {array.shape}; {ALLOWED}, of shape (n,)")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "f":
        return array.astype(np.float32 if array.itemsize < 4 else np.float64 if array.itemsize > 8 else array.dtype)
    if array.dtype.kind in "Mm":
        unit = np.datetime_data(array.dtype)[0]
        if unit == "generic":
            raise DataError(f"{where} holds {array.dtype} without a unit; {ALLOWED}")
        return array if unit in ("s", "ms", "us", "ns") else array.astype(f"{array.dtype.kind}8[{_pandas_unit(unit)}]")
    return array


def _pandas_unit(unit: str) -> str:
    """Return the unit of time that pandas has and that is nearest to one of numpy's."""
    return "ns" if unit in ("ps", "fs", "as") else "s"
