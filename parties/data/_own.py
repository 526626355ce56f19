"""A table that one seat has to itself: its ids, its columns, perhaps the label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedsim.errors import DataError
from fedsim.message import RoleId
from fedsim.parties.cut import TableSchema, absent, pick
from fedsim.parties.data import Columns, find_file
from fedsim.parties.data._cells import Array, Missing
from fedsim.parties.data._raw import RawTable, ReadOptions, read_names, read_raw
from fedsim.parties.data._schema import read_table
from fedsim.parties.data._spelling import ParseRules
from fedsim.parties.data._table import complete_column, spell_ids
from fedsim.parties.data._values import ColumnType


@dataclass(frozen=True)
class Slice:
    """What a seat has read: ids as they are compared, (n,), feature columns (n, D), and labels, (n,), if they lie here."""

    ids: list[str]
    table: RawTable
    labels: Array | None


@dataclass(frozen=True)
class OwnTable:
    """Where a seat's table lies, and what its columns are; errors name the seat and the file, never an id.

    Attributes:
        seat: whose it is.
        path: as the scenario or the seat's operator gives it.
        folder: where a relative path starts from, before the current folder; "": only from there.
        id: the column that names the rows.
        label: the column to predict.
        holds_labels: whether this seat is the one that reads it.
        missing: what to do with missing numeric cells.
        options: how the bytes of a csv file become cells.
        rules: how cells spell values.
        types: by column, its type where the settings say it.
    """

    seat: RoleId
    path: str
    folder: str
    id: str
    label: str
    holds_labels: bool
    missing: Missing
    options: ReadOptions = field(default_factory=ReadOptions)
    rules: ParseRules = field(default_factory=ParseRules)
    types: Mapping[str, ColumnType] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How errors name the table."""
        return f"{self.path} at {self.seat}"

    def read(self, columns: Columns) -> Slice:
        """These columns, and no others but id and label.

        Raises:
            DataError: the file is missing, not readable, lacks a column, has an id twice or not at all; a cell does not fit
                its column; or the label is among the columns.
        """
        try:
            file = find_file(self.path, self.folder)
        except DataError as error:
            raise DataError(f"the table of {self.seat}: {error}") from error
        header = read_names(file, self.options, self.name)
        id, label = self.id, self.label
        others = {id: "the id column"} | ({label: "the label"} if self.holds_labels else {})
        absent(others, header, where=self.name)
        features = pick(TableSchema(tuple(n for n in header if n not in others), others), self.name, columns)
        if label in features:
            self._refuse_label(label, columns, features)
        raw = read_raw(file, [*others, *features], self.name, self.options)
        ids = spell_ids(raw, id, self.rules)
        table = raw.take_columns(features)
        read_table(table, self.missing, self.rules, self.types)  # what is wrong here is said before the seats meet
        labels = complete_column(raw, label, "label column", self.rules) if self.holds_labels else None
        return Slice(ids, table, labels)

    def _refuse_label(self, label: str, columns: Columns, features: list[str]) -> None:
        named = columns if isinstance(columns, str) else ", ".join(columns)
        left = [name for name in features if name != label]
        others = ", ".join(left[:6]) + (", ..." if len(left) > 6 else "")
        raise DataError(
            f"{self.name}: column '{label}' is the label, which is never a feature, and '{named}' has it among the features; "
            f"name the columns without it ({others}), or take it out of this table"
        )
