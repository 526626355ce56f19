"""Read large csv texts with pyarrow, where it is installed and is sure to find the same cells as Python's ``csv``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

CHUNK_BYTES = 1 << 24
BLOCK_BYTES = 1 << 23
NEWLINE, RETURN, QUOTE = 10, 13, 34


def read_with_arrow(
    data: bytes, separator: str, width: int, wanted: Sequence[int], header: bool
) -> tuple[pd.DataFrame, npt.NDArray[np.int64]] | None:
    """Return what `read_records` does, or None where only that is sure to read the text right.

    That is the case without pyarrow, with quotes within cells, blank lines, carriage returns alone, and whatever pyarrow
    refuses: the slower reader then says what is wrong.
    """
    try:
        import pyarrow as pa
        import pyarrow.csv
    except ImportError:
        return None
    if width < 2 or not wanted or not separator.isascii() or data[:1] in (b"\n", b"\r"):
        return None
    if data.count(b"\r") != data.count(b"\r\n"):
        return None
    begins = find_record_lines(data, separator)
    if begins is None:
        return None
    names = [str(k) for k in range(width)]
    try:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(data),
            read_options=pyarrow.csv.ReadOptions(
                column_names=names, skip_rows_after_names=int(header), block_size=BLOCK_BYTES
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator, newlines_in_values=b'"' in data, ignore_empty_lines=True
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[names[k] for k in wanted],
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowException:
        return None
    lines = begins[int(header) :]
    if len(table) != len(lines):
        return None
    frame: Any = table.to_pandas()
    frame.columns = range(len(wanted))
    return frame, lines


def find_record_lines(data: bytes, separator: str) -> npt.NDArray[np.int64] | None:
    """Return the line, from 1, on which each record begins, or None where a quote stands within a cell.

    Every quote has to stand at the beginning or the end of a cell, or to be one of two, as RFC 4180 demands. Then a newline
    ends a record if, and only if, the number of quotes before it is even.
    """
    bytes_ = np.frombuffer(data, dtype=np.uint8)
    while len(bytes_) and bytes_[-1] in (NEWLINE, RETURN):
        bytes_ = bytes_[:-1]
    seen, newlines = 0, 0  # quotes and newlines in earlier chunks
    begins = [np.array([1], dtype=np.int64)]
    for start in range(0, len(bytes_), CHUNK_BYTES):
        chunk = bytes_[start : start + CHUNK_BYTES]
        ends = np.flatnonzero(chunk == NEWLINE)
        quotes = np.flatnonzero(chunk == QUOTE)
        if len(quotes):
            if not _are_at_edges(bytes_, quotes + start, seen, ord(separator)):
                return None
            outside = (seen + np.searchsorted(quotes, ends)) % 2 == 0
        else:
            outside = np.full(len(ends), seen % 2 == 0)
        begins.append(newlines + 2 + np.flatnonzero(outside))
        seen, newlines = seen + len(quotes), newlines + len(ends)
    return None if seen % 2 else np.concatenate(begins)


def _are_at_edges(bytes_: npt.NDArray[np.uint8], quotes: npt.NDArray[np.intp], seen: int, separator: int) -> bool:
    """Whether these quotes, ``seen`` others before them, open a cell, close one, or are one of two."""
    opens = (np.arange(seen, seen + len(quotes)) % 2) == 0
    first, last = quotes[opens], quotes[~opens]
    before = bytes_[first[first > 0] - 1]
    after = bytes_[last[last < len(bytes_) - 1] + 1]
    begin = (before == separator) | (before == NEWLINE) | (before == QUOTE)
    end = (after == separator) | (after == NEWLINE) | (after == RETURN) | (after == QUOTE)
    return bool(begin.all() and end.all())
