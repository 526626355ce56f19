"""Read the cells of a csv text exactly as they are written, and refuse lines with a cell too many or too few."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Record = tuple[int, list[str]]
"""The line on which a record begins, from 1, and its cells."""


def read_header(text: str, separator: str, source: str) -> list[str]:
    """Return the cells of the first line that is not blank, as they are written."""
    with _unlimited_cells():
        for _, cells in iterate_records(text, separator, source):
            return cells
    raise DataError(f"{source} has nothing but blank lines; expected a table")


def iterate_records(text: str, separator: str, source: str) -> Iterator[Record]:
    """Yield the records that are not blank.

    Raises:
        DataError: a quote that is opened and never closed.
    """
    blank = set(" \t") - {separator}
    # What follows the text is a record of its own unless a quote is still open.
    reader = csv.reader(io.StringIO(text + "\n\x00", newline=""), delimiter=separator)
    begin = 1
    for cells in reader:
        if cells == ["\x00"]:
            return
        if cells and cells[-1].endswith("\n\x00"):
            raise DataError(f'{source}, line {begin}: a quote (") is opened in this line and never closed')
        if cells and not (len(cells) == 1 and blank.issuperset(cells[0])):
            yield begin, cells
        begin = reader.line_num + 1


def read_cells(
    text: str, separator: str, source: str, width: int, wanted: Sequence[int], header: bool
) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """Return some columns by their position, (n, wanted), and the line on which each row begins, (n,).

    Raises:
        DataError: a record with more or fewer cells than ``width``.
    """
    import pandas as pd

    lines: list[int] = []
    rows: list[list[str]] = []
    with _unlimited_cells():
        records = iterate_records(text, separator, source)
        if header:
            next(records, None)
        for line, cells in records:
            if len(cells) != width and not (len(cells) == width + 1 and cells[-1] == ""):
                raise DataError(f"{source}, line {line}: {len(cells)} cells; expected {width}")
            lines.append(line)
            rows.append([cells[k] for k in wanted])
    table = np.empty((len(rows), len(wanted)), dtype=object)
    for k, column in enumerate(zip(*rows, strict=True)):
        table[:, k] = column
    return pd.DataFrame(table), np.array(lines, dtype=np.int64)


@contextmanager
def _unlimited_cells() -> Iterator[None]:
    """Lift the limit that Python sets to the length of a cell."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)
