"""Explain what is wrong with a csv text whose records have more or fewer cells than there are columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

SEPARATORS = {",": "','", ";": "';'", "\t": "'\\t' (tab)", "|": "'|'"}
"""What separates cells in most files, and how the settings spell it."""
MOST_KEPT = 100
"""Records that do not fit which are kept to find out why; the others are only counted."""


@dataclass
class Misfits:
    """Records that have another number of cells than there are columns.

    Attributes:
        count: how many there are.
        records: the line and the cells of the first of them.
        widths: the numbers of cells that they have.
    """

    count: int = 0
    records: list[tuple[int, list[str]]] = field(default_factory=list)
    widths: set[int] = field(default_factory=set)

    def note(self, line: int, cells: list[str]) -> None:
        """Count one more."""
        self.count += 1
        self.widths.add(len(cells))
        if len(self.records) < MOST_KEPT:
            self.records.append((line, cells))


def explain_misfits(
    misfits: Misfits, trailing: Misfits, total: int, width: int, separator: str, source: str, header: bool
) -> str:
    """Say in one line which record does not fit, what was expected, and the likely cause; no cell is shown.

    Args:
        misfits: the records that do not fit.
        trailing: records that have one cell too many, which is empty; they fit if all records are so.
        total: how many records there are in all.
        width: how many cells were expected.
        separator: the character between two cells.
        source: how errors name the file.
        header: whether the header line says how many; else the settings do.
    """
    records = sorted([*misfits.records, *trailing.records], key=lambda record: record[0])
    count, widths = misfits.count + trailing.count, misfits.widths | trailing.widths
    line, cells = records[0]
    who = "the header line" if header else "'names'"
    found = (
        f"{source}, line {line}: {count_cells(len(cells))}, but {who} names {width} column{'' if width == 1 else 's'}"
    )
    if count == total and len(widths) == 1:
        cause = _explain_header(len(cells), width, header)
    else:
        following = records[1] if len(records) > 1 else None
        cause = _explain_record(line, cells, following, width, separator)
    others = ", ".join(str(at) for at, _ in records[1:4]) + (", ..." if count > 4 else "")
    rest = f" ({count} of {total} rows do not fit, also in line {others})" if count > 1 else ""
    return f"{found}; {cause}{rest}"


def count_cells(number: int) -> str:
    """Return ``1 cell`` or ``2 cells``."""
    return f"{number} cell{'' if number == 1 else 's'}"


def find_separator(records: Sequence[Sequence[str]], separator: str) -> str | None:
    """Return what would split all of the first records into equally many cells, two at least, if anything would."""
    for other in SEPARATORS:
        counts = {separator.join(record).count(other) for record in records}
        if other != separator and len(records) > 1 and len(counts) == 1 and counts != {0}:
            return other
    return None


def _explain_header(found: int, width: int, header: bool) -> str:
    """Say why every record may have the same other number of cells."""
    if not header:
        return f"give 'names' a name for each of the {found} columns"
    if width == 1:
        return "the first line has to name the columns; perhaps a title or a comment stands before it"
    if found == width + 1:
        return "every line has one cell more: perhaps names of rows, for which the header line needs a name, too"
    return "every line has as many; the first line has to name each column"


def _explain_record(
    line: int, cells: Sequence[str], following: tuple[int, Sequence[str]] | None, width: int, separator: str
) -> str:
    """Say why one record may have too many or too few cells."""
    for other in SEPARATORS:
        if len(cells) == 1 and other != separator and cells[0].count(other) == width - 1 > 0:
            return f"it is separated by {SEPARATORS[other]} and the others by {spell_separator(separator)}"
    if len(cells) < width:
        if following and following[0] == line + 1 and len(cells) + len(following[1]) == width + 1:
            return 'it may go on in the next line: a cell with a line break needs quotes ("...")'
        return f"cells are missing: leave them empty, but write all {width - 1} separators"
    split = _find_split_numbers(cells, r"\d{3}(\.\d*)?") if separator == "," else []
    if len(split) == len(cells) - width:
        cause = "look like one number with a thousands separator"
        return f'cells {split[0]} and {split[0] + 1} {cause}: put it in quotes, "1,234"'
    if not any(cells[width:]):
        return "the last cells are empty: remove the separators at its end"
    split = _find_split_numbers(cells, r"\d+") if separator == "," else []
    if len(split) == len(cells) - width:
        return f'cells {split[0]} and {split[0] + 1} look like one number with a decimal comma: put it in quotes, "1,5"'
    numbers = ', also a number such as "1,234"' if split else ""
    return f'a cell that holds {spell_separator(separator)} needs quotes ("..."){numbers}'


def spell_separator(separator: str) -> str:
    """Return a separator as the settings spell it."""
    return SEPARATORS.get(separator, f"'{separator}'")


def _find_split_numbers(cells: Sequence[str], rest: str) -> list[int]:
    """Return which cells, from 1, begin a number that a comma may have cut in two; ``rest`` is what follows the comma."""
    begins = re.compile(r"\s*[-+]?\W?\d{1,3}")
    ends = re.compile(rest + r"\W?\s*")
    return [k + 1 for k in range(len(cells) - 1) if begins.fullmatch(cells[k]) and ends.fullmatch(cells[k + 1])]
