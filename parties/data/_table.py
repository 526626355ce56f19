"""What files with named columns share: how they spell values, and that one column is the label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, PrivateAttr, model_validator

from fedsim.errors import DataError, suggest
from fedsim.parties.classes import spell_labels
from fedsim.parties.column_names import ColumnName
from fedsim.parties.cut import Part, TablePart, TableSchema, absent
from fedsim.parties.data import Array, Data, Rows
from fedsim.parties.data._places import describe_column, describe_line, find_earliest
from fedsim.parties.data._raw import RawTable, ReadOptions, read_names, read_raw
from fedsim.parties.data._schema import read_table
from fedsim.parties.data._spelling import DateParts, ParseRules
from fedsim.parties.data._values import ColumnType, read_words
from fedsim.plugins import Settings

if TYPE_CHECKING:
    import pandas as pd

    from fedsim.seeding import Rng


class SpelledData(Data, ABC):
    """Tables whose values people spell: how numbers, dates and missing cells are written, and of what type columns are."""

    decimal: str = Field(".", min_length=1, max_length=1, description="the decimal sign of numbers")
    thousands: str | None = Field(
        None, min_length=1, max_length=1, description="the sign between groups of three digits; none: there is none"
    )
    na: tuple[str, ...] = Field((), description="what stands in a missing cell, besides nothing: [NA, '?', -999]")
    dates: DateParts = Field(
        "days", description="what becomes of dates: days (since 1970) | cyclic (day of the year, of the week, time)"
    )
    date_format: str | None = Field(
        None, min_length=2, description="how dates are written, such as '%d/%m/%Y'; none: ISO 8601, 2024-01-31"
    )
    types: dict[ColumnName, ColumnType] = Field(
        {}, description="by column, its type where the guess is wrong: number | category | boolean | date | duration"
    )

    @model_validator(mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        """``na: [-999]`` need not be quoted, and one word need not stand in a list."""
        if isinstance(value, Mapping) and value.get("na") is not None:
            words = value["na"] if isinstance(value["na"], list | tuple) else [value["na"]]
            plain = [
                str(word) if isinstance(word, int | float) and not isinstance(word, bool) else word for word in words
            ]
            return {**value, "na": plain}
        return value

    @model_validator(mode="after")
    def _signs(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands: expected two signs, found '{self.decimal}' for both")
        for name in ("decimal", "thousands"):
            sign = getattr(self, name)
            if sign is not None and (sign.isalnum() or sign in "+-%"):
                raise ValueError(f"{name}: expected a sign, such as '.' or ','; found '{sign}'")
        if self.date_format is not None and "%" not in self.date_format:
            raise ValueError(f"date_format: expected signs of strptime, such as '%d/%m/%Y'; found '{self.date_format}'")
        return self

    @abstractmethod
    def read_cells(self, part: Part) -> RawTable | Array:
        """See `Data.read_cells`."""

    def read(self, part: Part) -> pd.DataFrame | Array:
        """See `Data.read`; the types of the columns follow from all rows."""
        found = self.read_cells(part)
        if not isinstance(found, RawTable):
            return found
        return read_table(found, self.missing, self.parse_rules(), self.column_types())

    def parse_rules(self) -> ParseRules:
        """See `Data.parse_rules`."""
        na = tuple(word.strip() for word in self.na)
        return ParseRules(self.decimal, self.thousands, na, self.dates, self.date_format)

    def column_types(self) -> Mapping[str, ColumnType]:
        """See `Data.column_types`."""
        return self.types


def check_types(types: Mapping[str, ColumnType], columns: Sequence[str], where: str) -> None:
    """Raise DataError if a type is said of a column that is not there."""
    known = set(columns)
    for name in types:
        if name not in known:
            raise DataError(f"types: no column '{name}' in {where}{suggest(name, known)}")


class GivenSplit(Settings):
    """A column that says which rows are held out."""

    column: ColumnName = Field(description="the column's name")
    test: bool | int | float | str = Field(description="what it holds in held-out rows")


class TableFile(SpelledData, ABC):
    """A file with named columns."""

    path: str = Field(description="the file, from the folder of the scenario file, the current one or $FEDSIM_DATA")
    label: ColumnName = Field(description="the column to predict")
    id: ColumnName | None = Field(None, description="a column that only names the rows")
    split_by: GivenSplit | None = Field(
        None, alias="split", description="the file's own split: {column: ..., test: ...}"
    )

    location: ClassVar[frozenset[str]] = frozenset({"path"})

    _new: bool = PrivateAttr(default=False)  # rows to predict: they may lack the label and any other column

    def options(self) -> ReadOptions:
        """How the bytes of the file become cells."""
        return ReadOptions()

    def schema(self) -> TableSchema:  # type: ignore[override]
        """The feature columns, from the header."""
        header, others = self._header(), self._others()
        if not self._new:
            absent(list(others), header, where=self.path)
            check_types(self.column_types(), header, self.path)
        features = tuple(name for name in header if name not in others)
        if not features:
            raise DataError(f"{self.path} has no feature columns; its columns: {', '.join(header)}")
        return TableSchema(features, others)

    def read_cells(self, part: Part) -> RawTable:
        """The part's columns, as the file spells them."""
        if not isinstance(part, TablePart):
            raise DataError(f"{self.path} is a table, so a party needs names of columns; found pixels {part}")
        if not self._others().keys().isdisjoint(part.columns):
            absent(part.columns, self.schema().columns, where=self.path)
        return self._load(part.columns)

    def labels(self) -> Array:
        """The label column, (n,)."""
        return complete_column(self._column(self.label), self.label, "label column", self.parse_rules())

    def known_labels(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """See `Data.known_labels`."""
        raw = self._column(self.label)
        return raw.cells[self.label].to_numpy(), ~read_words(raw, self.label, self.parse_rules())[1]

    def has_labels(self) -> bool:
        """See `Data.has_labels`."""
        return self.label in self._header()

    def count(self) -> int:
        """How many rows the file has, from its first column."""
        file = self.find(self.path)
        stat = file.stat()
        return _count_rows(file, (stat.st_mtime_ns, stat.st_size, stat.st_ino), self.path, self.options())

    def split(self, rng: Rng) -> tuple[Rows, Rows]:
        """The file's own split where it has one, otherwise a drawn one."""
        if self.split_by is None:
            return super().split(rng)
        name, wanted = self.split_by.column, self.split_by.test
        raw = self._column(self.split_by.column)
        cells = spell_labels(complete_column(raw, name, "split column", self.parse_rules()))
        held_out = is_spelled(cells, wanted)
        if not held_out.any():
            found = ", ".join(sorted(set(cells))[:10])
            raise DataError(f"no row of {self.path} has {name} '{wanted}'; found: {found}")
        return self.given_split(held_out, rng)

    def elsewhere(self, path: str) -> Self:
        """The same columns from another file; those that a part does not need may be absent."""
        new = self.copy_to(path)
        new._new = True
        return new

    def ids(self) -> list[str] | None:
        """See `Data.ids`."""
        if self.id is None or self.id not in self._header():
            return None
        return spell_ids(self._column(self.id), self.id, self.parse_rules())

    def _others(self) -> dict[str, str]:
        others = {}
        if self.id is not None:
            others[self.id] = "the id column"
        if self.split_by is not None:
            others[self.split_by.column] = "the split column"
        return {**others, self.label: "the label"}

    def _header(self) -> list[str]:
        return read_names(self.find(self.path), self.options(), self.path)

    def _load(self, columns: Sequence[str]) -> RawTable:
        return read_raw(self.find(self.path), columns, self.path, self.options())

    def _column(self, name: str) -> RawTable:
        return self._load([name])


@lru_cache(maxsize=16)
def _count_rows(file: Path, version: tuple[int, ...], source: str, options: ReadOptions) -> int:
    """How many rows a version of a file has: in one process every seat asks, and every time the whole file is read."""
    return len(read_raw(file, read_names(file, options, source)[:1], source, options).lines)


def complete_column(raw: RawTable, name: str, what: str, rules: ParseRules) -> Array:
    """The cells of a column of which every row needs one, (n,); those of text without spaces where one is missing.

    Raises:
        DataError: a cell is missing; names the first.
    """
    _, missing = read_words(raw, name, rules)
    if missing.any():
        where = describe_column(raw, name).removeprefix("column")
        first = describe_line(raw, find_earliest(raw, missing))
        raise DataError(
            f"{what}{where} has {missing.sum()} missing cells; every row needs one; the first is in {first}"
        )
    found: Array = raw.cells[name].to_numpy()
    return found


def is_spelled(cells: Array, wanted: bool | int | float | str) -> npt.NDArray[np.bool_]:
    """Which cells, as `spell_labels` gives them, stand for a value, (n,); ``01`` is the number 1."""
    (spelt,) = spell_labels(np.array([str(wanted)], dtype=object))
    if isinstance(wanted, str):
        return np.asarray((cells == spelt) | (cells == wanted))
    numbers = {cell: _as_number(cell) for cell in set(cells.tolist())}
    return np.array([cell == spelt or numbers[cell] == wanted for cell in cells.tolist()], dtype=np.bool_)


def _as_number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def spell_ids(raw: RawTable, name: str, rules: ParseRules) -> list[str]:
    """The ids of all rows as they are compared.

    Raises:
        DataError: one is missing, or stands twice; the message tells none of them.
    """
    from fedsim.parties.align import normal

    where = f"id {describe_column(raw, name)}"
    cells, missing = read_words(raw, name, rules)
    ids = [normal(cell) for cell in cells]
    if missing.any():
        blank = sum(isinstance(cell, str) and cell != "" for cell in raw.cells[name].to_numpy(dtype=object)[missing])
        what = "empty cells; every row needs an id" if blank == missing.sum() else "missing cells; every row needs one"
        raise DataError(f"{where} has {missing.sum()} {what}")
    if twice := len(ids) - len(set(ids)):
        raise DataError(f"{where} repeats an id in {twice} rows; every row needs its own")
    return ids
