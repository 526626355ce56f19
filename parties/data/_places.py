"""Say where a cell lies and what is wrong with it."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError
from fedsim.parties.data._raw import RawTable


def describe_column(raw: RawTable, name: str) -> str:
    """How errors name a column."""
    return f"column '{name}' of {raw.source}" if raw.source else f"column '{name}'"


def describe_line(raw: RawTable, row: int) -> str:
    """Where a row lies in its file."""
    return f"{'row' if raw.typed else 'line'} {raw.lines[row]}"


def find_earliest(raw: RawTable, rows: npt.NDArray[np.bool_]) -> int:
    """Of these rows, (n,) bool, the one that comes first in the file; rows are drawn in another order."""
    there = np.flatnonzero(rows)
    return int(there[np.argmin(raw.lines[there])])


def show_value(value: str, longest: int = 40) -> str:
    """A value in one line, and not too long a one."""
    line = " ".join(value.split())
    return line if len(line) <= longest else f"{line[:longest]}..."


def refuse_cell(raw: RawTable, name: str, row: int, value: str, count: int, expected: str) -> NoReturn:
    """Raise DataError about the first of ``count`` cells that do not fit a column whose type is known."""
    place = raw.describe_place(row) if raw.source else describe_line(raw, row)
    more = f", the first of {count}" if count > 1 else ""
    raise DataError(f"{place}: column '{name}' must be {expected}; found '{show_value(value)}'{more}")


def refuse_column(raw: RawTable, name: str, row: int, value: str, count: int, expected: str, advice: str) -> NoReturn:
    """Raise DataError about a column whose type cannot be inferred, for the first of ``count`` cells that spoil it."""
    more = f", the first of {count}" if count > 1 else ""
    found = f"found '{show_value(value)}' in {describe_line(raw, row)}{more}"
    raise DataError(f"{describe_column(raw, name)} must be {expected}; {found}; {advice}")
