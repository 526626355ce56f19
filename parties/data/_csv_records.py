"""Split csv text into records of cells exactly as they are written, and remember the line of each.

Quotes follow RFC 4180. Where they do not stand at both ends of a cell, they are read as Python's ``csv`` and pandas read
them: a quote within an unquoted cell is a quote.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError
from fedsim.parties.data._csv_arrow import read_with_arrow
from fedsim.parties.data._csv_faults import Misfits, explain_misfits

if TYPE_CHECKING:
    import pandas as pd

Lines = npt.NDArray[np.int64]
Record = tuple[int, list[str]]
"""The line on which a record begins, from 1, and its cells."""

LARGE_BYTES = 32 << 20
"""Cells of a larger text are kept in pandas' compact strings, not as objects: a quarter of the memory."""
MAX_CELL_CHARACTERS = 2**31 - 1
"""Python's own limit is 131,072, for the whole process; it is only ever raised, so that two readers cannot undo it."""
BATCH_ROWS = 50_000
END = "\0"
"""Marks the end of the text, which itself holds no NUL."""


def iterate_records(data: bytes, separator: str, source: str, width: int = 0) -> Iterator[Record]:
    """Yield the records of a UTF-8 text that are not blank.

    A line of spaces is blank, but in a table of ``width`` 1 it is a cell, as it may stand in quotes.

    Raises:
        DataError: a quote that is opened and never closed.
    """
    blank = set(" \t") - {separator}
    begin = 1
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="") as text:
        # A record of two cells follows the text; in a quote that is still open it would be part of one cell.
        reader = csv.reader(itertools.chain(text, [f"{END}{separator}{END}"]), delimiter=separator)
        for cells in reader:
            if cells and cells[-1].endswith(END):
                if cells != [END, END]:
                    raise DataError(f'{source}, line {begin}: a quote (") is opened in this record and never closed')
                return
            if len(cells) > 1 or (cells and (not cells[0] or not blank.issuperset(cells[0]))):
                yield begin, cells
                if width == 1:
                    blank = set()
            begin = reader.line_num + 1


def read_records(
    data: bytes, separator: str, source: str, width: int, wanted: Sequence[int], header: bool
) -> tuple[pd.DataFrame, Lines]:
    """Return some columns by their position, (n, wanted), and the line on which each row begins, (n,).

    Args:
        data: the text in UTF-8.
        separator: the character between two cells.
        source: how errors name the file.
        width: the cells that each record must have; more are allowed where all have as many and these are empty.
        wanted: the positions of the columns.
        header: whether the first record names the columns.

    Raises:
        DataError: a record with more or fewer cells than ``width``.
    """
    large = len(data) > LARGE_BYTES
    if large and (found := read_with_arrow(data, separator, width, wanted, header)) is not None:
        return found
    lines: list[int] = []
    batch: list[Sequence[str]] = []
    frames: list[pd.DataFrame] = []
    trailing, misfits = Misfits(), Misfits()  # records with empty cells too many, and others that do not fit
    every = list(wanted) == list(range(width))
    for line, cells in itertools.islice(iterate_records(data, separator, source, width), int(header), None):
        if len(cells) != width:
            (trailing if len(cells) > width and not any(cells[width:]) else misfits).note(line, cells)
        lines.append(line)
        if not misfits.count:
            batch.append(cells if every and len(cells) == width else [cells[k] for k in wanted])
        if large and len(batch) == BATCH_ROWS:
            frames.append(_to_compact_frame(batch, len(wanted)))
            batch = []
    if misfits.count or trailing.count not in (0, len(lines)) or len(trailing.widths) > 1:
        raise DataError(explain_misfits(misfits, trailing, len(lines), width, separator, source, header))
    return _join_frames(frames, batch, len(wanted)), np.array(lines, dtype=np.int64)


def _join_frames(frames: list[pd.DataFrame], batch: list[Sequence[str]], width: int) -> pd.DataFrame:
    import pandas as pd

    if frames:
        return pd.concat([*frames, *([_to_compact_frame(batch, width)] if batch else [])], ignore_index=True)
    return _to_object_frame(batch, width)


def _to_object_frame(batch: list[Sequence[str]], width: int) -> pd.DataFrame:
    """Keep cells in one block of objects: with an array a column pandas takes a millisecond for each of 20,000 columns."""
    import pandas as pd

    table = np.empty((len(batch), width), dtype=object)
    if batch:
        table[:] = batch
    return pd.DataFrame(table, dtype=object, copy=False)


def _to_compact_frame(batch: list[Sequence[str]], width: int) -> pd.DataFrame:
    """Keep cells in the compact strings that pandas has from version 3 on, together with pyarrow."""
    import pandas as pd

    dtype: Any = pd.Series([""]).dtype
    if getattr(dtype, "storage", "python") == "python":  # no more compact than objects, and slower to make
        return _to_object_frame(batch, width)
    columns = zip(*batch, strict=True) if width else []
    return pd.DataFrame(
        {k: pd.array(list(column), dtype=dtype) for k, column in enumerate(columns)}, index=range(len(batch))
    )
