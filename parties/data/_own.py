"""A table that one seat has to itself: its ids, its columns, perhaps the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedsim.errors import DataError
from fedsim.message import RoleId
from fedsim.parties.align import normal
from fedsim.parties.cut import TableSchema, absent, pick
from fedsim.parties.data import Columns, find_file
from fedsim.parties.data._cells import Array, Missing, complete, numbers, text
from fedsim.parties.data._files import reading
from fedsim.parties.data._formats import form_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Slice:
    """What a seat has read: ids as they are compared, (n,), feature columns (n, D), and labels, (n,), if they lie here."""

    ids: list[str]
    table: pd.DataFrame
    labels: Array | None


@dataclass(frozen=True)
class OwnTable:
    """Where a seat's table lies, and what its columns are; errors name the seat and the file, never an id.

    Attributes:
        seat: whose it is.
        path: as the scenario or the seat's operator gives it.
        id: the column that names the rows.
        label: the column to predict, if it is in this table.
        missing: what to do with missing numeric cells.
    """

    seat: RoleId
    path: str
    id: str
    label: str | None
    missing: Missing

    @property
    def name(self) -> str:
        """How errors name the table."""
        return f"{self.path} at {self.seat}"

    def read(self, columns: Columns) -> Slice:
        """These columns, and no others but id and label.

        Raises:
            DataError: the file is missing, not readable, lacks a column, has an id twice or not at all, or a cell that is
                no number in a column of numbers.
        """
        try:
            file = find_file(self.path)
        except DataError as error:
            raise DataError(f"the table of {self.seat}: {error}") from error
        form = form_of(file)
        with reading(file, form.name):
            header = form.header(file)
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise DataError(f"{self.name} has two columns named '{twice[0]}'")
        others = {self.id: "the id column"} | ({self.label: "the label"} if self.label else {})
        absent(others, header, where=self.name)
        features = pick(TableSchema(tuple(n for n in header if n not in others), others), self.name, columns)
        with reading(file, form.name):
            table = form.cells(file, [*others, *features], [self.id])
        if not len(table):
            raise DataError(f"{self.name} has no rows")
        ids = self._ids(table[self.id])
        for name in features:
            self._check(table[name], typed=form.name != "csv")
        labels = complete(table[self.label], f"label column '{self.label}' of {self.name}") if self.label else None
        return Slice(ids, table[features], None if labels is None else labels.to_numpy())

    def _ids(self, column: pd.Series[Any]) -> list[str]:
        where = f"id column '{self.id}' of {self.name}"
        cells, _ = text(complete(column, where))
        ids = [normal(cell) for cell in cells]
        if "" in ids:
            raise DataError(f"{where} has {ids.count('')} empty cells; every row needs an id")
        if twice := len(ids) - len(set(ids)):
            raise DataError(f"{where} repeats an id in {twice} rows; every row needs its own")
        return ids

    def _check(self, column: pd.Series[Any], typed: bool) -> None:
        """Refuse a number that cannot be used; in text without types, a few words among numbers as well.

        They would make categories of all the numbers.
        """
        import pandas as pd
        from pandas.api.types import is_numeric_dtype

        spelt = 0 if typed else int(pd.to_numeric(column, errors="coerce").notna().sum())
        if is_numeric_dtype(column) or 2 * spelt > column.count():
            numbers(column, f"column '{column.name}' of {self.name}", self.missing)
