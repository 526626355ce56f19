"""A table a seat: nobody reads another's file, and rows are matched by id when the seats meet."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import ClassVar, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from fedsim.errors import DataError, suggest
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.parties.align import align
from fedsim.parties.column_names import ColumnName
from fedsim.parties.cut import Part, TablePart, TableSchema
from fedsim.parties.data import Array, Columns, Data, Held, file_digest
from fedsim.parties.data._csv_settings import CsvSettings, check_names
from fedsim.parties.data._own import OwnTable
from fedsim.parties.data._raw import RawTable, ReadOptions, read_names
from fedsim.parties.data._table import SpelledData, check_types
from fedsim.parties.data.csv import Csv


class Tables(CsvSettings, SpelledData):
    """Each seat has its own csv, parquet or npz file with an id column; rows that not all seats have are left out."""

    id: ColumnName = Field(description="the column that names the rows, in every table")
    label: ColumnName = Field(description="the column to predict, in the table of the seat that holds the labels")
    files: dict[RoleId, str] = Field(
        {}, description="by seat, its file: parquet, npz (an array a column) or csv; default: <seat>.csv"
    )
    names: dict[RoleId, tuple[ColumnName, ...]] = Field(
        {}, description="by seat, all columns of its csv file in their order, where that has no header line"
    )

    location: ClassVar[frozenset[str]] = frozenset({"files"})
    apart: ClassVar[bool] = True

    _table: RawTable | None = PrivateAttr(default=None)  # of one seat, once the seats have met
    _labels: Array | None = PrivateAttr(default=None)
    _left_out: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _nothing_to_drop(self) -> Self:
        if self.drop:
            raise ValueError("drop: expected nothing; columns that a party does not name are not read")
        if self.id == self.label:
            raise ValueError(f"id and label: expected two columns, found '{self.id}' for both")
        return self

    @field_validator("names")
    @classmethod
    def _distinct_names(cls, names: dict[RoleId, tuple[str, ...]]) -> dict[RoleId, tuple[str, ...]]:
        return {seat: check_names(own) or () for seat, own in names.items()}

    def options(self, seat: RoleId) -> ReadOptions:
        """How a seat's file is written, if it is a csv file."""
        return ReadOptions(self.separator, self.encoding, self.names.get(seat))

    def check_seats(self, seats: Collection[RoleId]) -> None:
        """See `Data.check_seats`."""
        for setting, given in (("files", self.files), ("names", self.names)):
            for seat in given:
                if seat not in seats:
                    raise ValueError(f"data.{setting}: there is no seat '{seat}'{suggest(seat, seats)}")

    async def meet(self, held: Held, net: Net, key: bytes) -> Tables:
        """See `Data.meet`."""
        self._check_types(net.roster)
        own = self._own(held).read(held.columns)
        rows = await align(own.ids, net, key)
        met = self.model_copy()
        met._table, met._left_out = own.table.take_rows(rows), len(own.ids) - len(rows)
        met._labels = None if own.labels is None else own.labels[rows]
        return met

    def schema(self) -> TableSchema:  # type: ignore[override]
        """The columns that this seat has read."""
        return TableSchema(tuple(self._met().cells.columns))

    def part(self, name: RoleId, columns: Mapping[RoleId, Columns]) -> Part:
        """All columns that this seat has read."""
        return TablePart(self.schema().columns)

    def read_cells(self, part: Part) -> RawTable:
        """The part's columns of the rows that all seats have, in the common order."""
        if not isinstance(part, TablePart):
            raise DataError(f"a party of tables needs names of columns; found pixels {part}")
        return self._met().take_columns(part.columns)

    def labels(self) -> Array:
        """The labels of the rows that all seats have, in the common order, (n,)."""
        assert self._labels is not None, "the seat that holds the labels asks"
        return self._labels

    def count(self) -> int:
        """How many rows all seats have."""
        return len(self._met().lines)

    def left_out(self) -> int | None:
        """See `Data.left_out`."""
        return self._left_out

    def away(self, seats: Collection[RoleId]) -> dict[RoleId, str]:
        """See `Data.away`."""
        found = {}
        for seat in seats:
            try:
                self.find(self._path(seat))
            except DataError:
                found[seat] = self._path(seat)
        return found

    def look(self, held: Held) -> None:
        """See `Data.look`."""
        self._own(held).read(held.columns)

    def at(self, seat: RoleId, path: str) -> Tables:
        """See `Data.at`."""
        return self.model_copy(update={"files": {**self.files, seat: path}})

    def digest(self, seats: Collection[RoleId] = ()) -> str:
        """Of the tables that this machine has, by seat; empty if it has none."""
        away = self.away(seats)
        here = [f"{seat} {file_digest(self.find(self._path(seat)))}" for seat in sorted(seats) if seat not in away]
        return hashlib.sha256("\n".join(here).encode()).hexdigest() if here else ""

    def elsewhere(self, path: str) -> Data:
        """New rows with the columns of all parties side by side in one file; ids are not needed."""
        return self._table_at(path, None).elsewhere(path)

    def rows_of(self, seat: RoleId, path: str) -> Data:
        """See `Data.rows_of`."""
        return self._table_at(path, seat).elsewhere(path)

    def _table_at(self, path: str, seat: RoleId | None) -> Csv:
        """A file by itself, written as the tables are; ``seat``: as its table, which may have no header line."""
        shared = (*SpelledData.model_fields, *CsvSettings.model_fields, "id", "label")
        names = None if seat is None else self.names.get(seat)
        return Csv(path=path, names=names, **{name: getattr(self, name) for name in shared})

    def _check_types(self, seats: Collection[RoleId]) -> None:
        """Refuse a type of a column that no table has, where all tables are on this machine; only their headers are read."""
        if self.types and not self.away(seats):
            headers = (read_names(self.find(self._path(seat)), self.options(seat)) for seat in seats)
            check_types(self.types, [name for header in headers for name in header], "any table")

    def _own(self, held: Held) -> OwnTable:
        rules, types = self.parse_rules(), self.column_types()
        path = self._path(held.seat)
        return OwnTable(
            held.seat,
            path,
            self._folder,
            self.id,
            self.label,
            held.labels,
            self.missing,
            self.options(held.seat),
            rules,
            types,
        )

    def _path(self, seat: RoleId) -> str:
        return self.files.get(seat, f"{seat}.csv")

    def _met(self) -> RawTable:
        assert self._table is not None, "the seats meet first"
        return self._table
