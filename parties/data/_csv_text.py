"""Read the names and the cells of a csv text, whatever its encoding; nothing is guessed about what a cell means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING

from fedsim.errors import DataError
from fedsim.parties.column_names import distinguish_names, normalise_name
from fedsim.parties.cut import absent
from fedsim.parties.data._csv_faults import count_cells, find_separator, spell_separator
from fedsim.parties.data._csv_records import Lines, iterate_records, read_records
from fedsim.parties.data._encoding import to_utf8

if TYPE_CHECKING:
    import pandas as pd

HEAD_BYTES = 1 << 20
"""What is read of a file for the names of its columns, if its first lines are not longer."""


@dataclass(frozen=True)
class ReadOptions:
    """How the bytes of a csv file become cells; the other formats know it themselves.

    Attributes:
        separator: the character between two cells.
        encoding: of the text; None: UTF-8, or what a byte order mark says.
        names: the columns of a file without a header line; None: its first line names them.
    """

    separator: str = ","
    encoding: str | None = None
    names: tuple[str, ...] | None = None


def read_csv_names(stream: IO[bytes], options: ReadOptions, source: str) -> list[str]:
    """Return the names of all columns; only the beginning is read, unless the header line ends in a separator.

    Raises:
        DataError: the text is not in the encoding, has no first line, or two columns have one name.
    """
    content = stream.read(HEAD_BYTES)
    whole = len(content) < HEAD_BYTES
    data = to_utf8(content, source, options.encoding, whole)
    records = _read_first_records(data, options, source, whole)
    if not whole and (len(records) < 3 or _has_unnamed_end(records[0], options)):
        data = to_utf8(content + stream.read(), source, options.encoding)
        records = _read_first_records(data, options, source)
    return list(_name_columns(data, records, options, source))


def read_csv_columns(
    stream: IO[bytes], wanted: Sequence[str], options: ReadOptions, source: str
) -> tuple[pd.DataFrame, Lines]:
    """Return some columns by their normalised names, (n, wanted), and the line on which each row begins, (n,).

    Raises:
        DataError: as `read_csv_names`; a column is not there, or a line has more or fewer cells than there are columns.
    """
    data = to_utf8(stream.read(), source, options.encoding)
    names = _name_columns(data, _read_first_records(data, options, source), options, source)
    absent(wanted, names, where=source)
    positions = {name: k for k, name in enumerate(names)}
    at = [positions[name] for name in wanted]
    return read_records(data, options.separator, source, len(names), at, options.names is None)


def _read_first_records(data: bytes, options: ReadOptions, source: str, whole: bool = True) -> list[list[str]]:
    """Return the first records, three at most; of a text that is cut off the third may be incomplete."""
    try:
        return [cells for _, cells in islice(iterate_records(data, options.separator, source), 3)]
    except DataError:  # a quote that is not closed, perhaps because the text is cut off
        if whole:
            raise
        return []


def _name_columns(data: bytes, records: list[list[str]], options: ReadOptions, source: str) -> list[str]:
    """Return the names of all columns, given the first records of the text."""
    if not records:
        raise DataError(f"{source} has nothing but blank lines; expected a table")
    first, separator = records[0], options.separator
    if first == ["sep=", ""] or (len(first) == 1 and first[0].startswith("sep=") and len(first[0]) == 5):
        raise DataError(f"{source}: the first line is a note to Excel; delete it and set 'separator'")
    if len(first) == 1 and (other := find_separator(records, separator)):
        found = f"{source}: no line is separated by {spell_separator(separator)}"
        raise DataError(f"{found}; they look separated by {spell_separator(other)}: set 'separator'")
    if options.names is None:
        spare = _count_spare_cells(data, first, options, source) if _has_unnamed_end(first, options) else 0
        return list(distinguish_names(first[: len(first) - spare], source))
    names = [normalise_name(name) for name in options.names]
    if [normalise_name(cell) for cell in first] == names:
        raise DataError(f"{source}: the first line holds the names of the columns already; leave 'names' out")
    if len(first) < len(names) or any(first[len(names) :]):
        found = f"{source}: 'names' names {len(names)} columns, but the first line has {count_cells(len(first))}"
        raise DataError(f"{found}; name every column in its order")
    return names


def _has_unnamed_end(header: list[str], options: ReadOptions) -> bool:
    return options.names is None and len(header) > 1 and not header[-1].strip()


def _count_spare_cells(data: bytes, header: list[str], options: ReadOptions, source: str) -> int:
    """Return how many columns at the end have neither a name nor a cell in any row: separators end each line.

    Spreadsheets write such lines. They are none if the rows do not agree how many there are.
    """
    named = len(header)
    while named > 1 and not header[named - 1].strip():
        named -= 1
    widths = set()
    for _, cells in islice(iterate_records(data, options.separator, source), 1, None):
        if len(cells) < named or any(cells[named:]):
            return 0
        widths.add(len(cells))
    return len(header) - named if len(widths) == 1 else 0
