"""What csv and parquet files share: named columns, one of which is the label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from fedsim.errors import DataError
from fedsim.parties.cut import Part, TablePart, TableSchema, absent
from fedsim.parties.data import Data, Rows, find_file
from fedsim.parties.data._cells import Array, complete, numbers, text
from fedsim.parties.data._files import reading
from fedsim.plugins import Settings

if TYPE_CHECKING:
    import pandas as pd

    from fedsim.seeding import Rng


class GivenSplit(Settings):
    """A column that says which rows are held out."""

    column: str = Field(description="the column's name")
    test: bool | int | float | str = Field(description="what it holds in held-out rows")


class TableFile(Data, ABC):
    """A file with named columns."""

    path: str = Field(description="the file, from the current folder or from $FEDSIM_DATA")
    label: str = Field(description="the column to predict")
    id: str | None = Field(None, description="a column that only names the rows")
    split_by: GivenSplit | None = Field(
        None, alias="split", description="the file's own split: {column: ..., test: ...}"
    )

    location: ClassVar[frozenset[str]] = frozenset({"path"})
    form: ClassVar[str]
    """The format's name in errors."""

    _new: bool = PrivateAttr(default=False)  # rows to predict: they may lack the label and any other column

    @abstractmethod
    def header(self, file: Path) -> list[str]:
        """The names of all columns; may raise anything in `UNREADABLE`."""

    @abstractmethod
    def load(self, file: Path, columns: Sequence[str]) -> pd.DataFrame:
        """These columns only, (n, columns); may raise anything in `UNREADABLE`."""

    def schema(self) -> TableSchema:  # type: ignore[override]
        """The feature columns, from the header."""
        header, others = self._header(), self._others()
        if not self._new:
            absent(list(others), header, where=self.path)
        features = tuple(name for name in header if name not in others)
        if not features:
            raise DataError(f"{self.path} has no feature columns; its columns: {', '.join(header)}")
        return TableSchema(features, others)

    def read(self, part: Part) -> pd.DataFrame:
        """The part's columns; an infinite number is refused, and a missing one unless ``missing`` is ``mean``."""
        from pandas.api.types import is_numeric_dtype

        if not isinstance(part, TablePart):
            raise DataError(f"{self.path} is a table, so a party needs names of columns; found pixels {part}")
        absent(part.columns, self.schema().columns, where=self.path)
        table = self._load(part.columns)
        for name in part.columns:
            if is_numeric_dtype(table[name]):
                numbers(table[name], f"column '{name}' of {self.path}", self.missing)
        return table

    def labels(self) -> Array:
        """The label column, (n,)."""
        return self._column(self.label, "label column").to_numpy()

    def count(self) -> int:
        """How many rows the file has, from its first column."""
        return len(self._load(self._header()[:1]))

    def split(self, rng: Rng) -> tuple[Rows, Rows]:
        """The file's own split where it has one, otherwise a drawn one."""
        if self.split_by is None:
            return super().split(rng)
        cells, _ = text(self._column(self.split_by.column, "split column"))
        held_out = cells == str(self.split_by.test)
        if not held_out.any():
            found = ", ".join(sorted(set(cells))[:10])
            raise DataError(f"no row of {self.path} has {self.split_by.column} '{self.split_by.test}'; found: {found}")
        return self.given_split(held_out, rng)

    def elsewhere(self, path: str) -> Self:
        """The same columns from another file; those that a part does not need may be absent."""
        new = self.model_copy(update={"path": path})
        new._new = True
        return new

    def _others(self) -> dict[str, str]:
        others = {}
        if self.id is not None:
            others[self.id] = "the id column"
        if self.split_by is not None:
            others[self.split_by.column] = "the split column"
        return {**others, self.label: "the label"}

    def _header(self) -> list[str]:
        file = find_file(self.path)
        with reading(file, self.form):
            header = self.header(file)
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise DataError(f"{self.path} has two columns named '{twice[0]}'")
        return header

    def _load(self, columns: Sequence[str]) -> pd.DataFrame:
        file = find_file(self.path)
        with reading(file, self.form):
            table = self.load(file, columns)
        if not len(table):
            raise DataError(f"{self.path} has no rows")
        return table[list(columns)]

    def _column(self, name: str, what: str) -> pd.Series[Any]:
        absent([name], self._header(), where=self.path)
        return complete(self._load([name])[name], f"{what} '{name}' of {self.path}")
