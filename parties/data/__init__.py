"""Where the rows come from: one module a kind of data set, found by its name.

Every party reads only the columns that the vertical cut gives it, the label holder only the label, and all of them
derive the same split into training and held-out rows from the public seed. Of most kinds all seats have the same rows; of one
that comes `Data.apart` each seat has its own table, and they agree on the rows before anything is built.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, field_validator

from fedsim.errors import DataError
from fedsim.parties.column_names import spell_columns
from fedsim.parties.cut import ImageSchema, Part, Schema, TableSchema, cut
from fedsim.parties.data._cells import Missing
from fedsim.parties.data._files import find_file
from fedsim.plugins import Plugin, find, own_names

if TYPE_CHECKING:
    import pandas as pd

    from fedsim.message import RoleId
    from fedsim.net import Net
    from fedsim.parties.data._raw import RawTable
    from fedsim.parties.data._spelling import ParseRules
    from fedsim.parties.data._values import ColumnType
    from fedsim.seeding import Rng

__all__ = ["Data", "Held", "ImageSchema", "Missing", "Part", "Schema", "TableSchema", "file_digest", "find_file"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Columns = str | list[str]
"""A party's specification of its columns."""


class Held(NamedTuple):
    """What a seat is to hold of its own table: columns, perhaps none, and perhaps the labels."""

    seat: RoleId
    columns: Columns
    labels: bool


class Data(Plugin, ABC):
    """A data set: its features, its labels, and which rows are held out."""

    model_config = ConfigDict(serialize_by_alias=True)

    apart: ClassVar[bool] = False
    """Whether each seat has a table of its own, so that the seats have to `meet` first."""
    of_training: ClassVar[frozenset[str]] = frozenset(
        {"rows", "target_rows", "drop", "missing", "types", "decimal", "thousands", "na", "dates", "date_format"}
    )
    """Settings that change what is learned from, or how cells are read, but not which rows are scored by which labels."""

    rows: int | None = Field(None, ge=1, description="training rows, drawn with the seed; none: all but the held-out")
    test: float | int = Field(
        0.2, description="held-out rows: a fraction or a count; of a split that the data brings itself: a count"
    )
    drop: tuple[str, ...] = Field((), description="features left unused on purpose, in the form of a party's columns")
    missing: Missing = Field("error", description="missing numeric cells: error | mean (of the party's training rows)")

    @field_validator("drop", mode="before")
    @classmethod
    def _names_to_drop(cls, value: Any) -> Any:
        return spell_columns(value)

    @field_validator("test", mode="before")
    @classmethod
    def _fraction_or_count(cls, value: Any) -> Any:
        if (isinstance(value, float) and 0 < value < 1) or (type(value) is int and value >= 1):
            return value
        raise ValueError(f"expected a fraction between 0 and 1 or a count of rows from 1; found {value!r}")

    @abstractmethod
    def schema(self) -> Schema:  # type: ignore[override]  # pydantic's deprecated namesake
        """The features, without label, id and split column; reads a file's header only, where it has one.

        Raises:
            DataError: the file is missing, not readable, or lacks a column that the settings name.
        """

    @abstractmethod
    def read(self, part: Part) -> pd.DataFrame | Array:
        """All rows of this part and nothing else: a table (n, columns), or images (n, C, h, w) float32 in [0, 1].

        Raises:
            DataError: the file is not readable, lacks a column, or holds numbers that are not finite.
        """

    def read_cells(self, part: Part) -> RawTable | pd.DataFrame | Array:
        """The same as the file spells it: a party infers the types of its columns from its training rows alone."""
        return self.read(part)

    def parse_rules(self) -> ParseRules:
        """How text spells numbers, dates and missing cells."""
        from fedsim.parties.data._spelling import ParseRules

        return ParseRules()

    def column_types(self) -> Mapping[str, ColumnType]:
        """By column, its type where the settings say it."""
        return {}

    @abstractmethod
    def labels(self) -> Array:
        """The raw labels, (n,); reads nothing else. DataError if there are none or one is missing."""

    def has_labels(self) -> bool:
        """Whether there are labels; new rows may have none."""
        return True

    def ids(self) -> list[str] | None:
        """What names the rows, as it is compared, each once; None where nothing does."""
        return None

    @abstractmethod
    def count(self) -> int:
        """How many rows there are in all."""

    def split(self, rng: Rng) -> tuple[Rows, Rows]:
        """The training and the held-out rows, int64, in drawn order: equal at every seat that has the same ``rng``.

        More training rows do not change which rows are held out.

        Raises:
            DataError: ``rows`` and ``test`` ask for more than there is.
        """
        total = self.count()
        held = self.test if isinstance(self.test, int) else max(1, round(self.test * total))
        if total - held < (self.rows or 1):
            raise DataError(f"{self.rows or 1} training and {held} held-out rows are asked of {total} rows")
        order = rng.numpy().permutation(total).astype(np.int64)
        return order[held:][: self.rows], order[:held]

    def part(self, name: RoleId, columns: Mapping[RoleId, Columns]) -> Part:
        """What one party holds, given the specifications of all; DataError if they do not cut the features in parts."""
        return self.parts(columns)[name]

    def parts(self, columns: Mapping[RoleId, Columns]) -> dict[RoleId, Part]:
        """What every party holds, by party; DataError as for `part`. Of a kind that is `apart` nobody knows."""
        return cut(self.schema(), columns, self.drop)

    async def meet(self, held: Held, net: Net, key: bytes) -> Data:
        """What this seat has of the rows that all seats have, of a kind whose tables are `apart`.

        Args:
            held: what this seat reads, and it reads nothing else.
            net: the way to the other seats, all of which meet.
            key: what ids are hashed with, the same at every seat.

        Raises:
            DataError: this seat's table cannot be used, or no row is at every seat.
        """
        return self

    def left_out(self) -> int | None:
        """How many rows of this seat's own table are not at every seat; None where all seats have the same rows."""
        return None

    def away(self, seats: Collection[RoleId]) -> dict[RoleId, str]:
        """By seat, the table of its own that this machine does not have, as in a deployment; of a kind that is `apart`."""
        return {}

    def check_seats(self, seats: Collection[RoleId]) -> None:
        """Raise ValueError if the settings name a seat that the scenario does not have."""

    def look(self, held: Held) -> None:
        """Read one seat's own table and keep nothing; DataError if it cannot be used."""

    def at(self, seat: RoleId, path: str) -> Data:
        """The same data, of which one seat has its file elsewhere.

        Raises:
            DataError: this kind reads no files.
        """
        if self.location != {"path"}:
            raise DataError(f"data of kind '{self.kind()}' has no file that could lie at '{path}'")
        return self.copy_to(path)

    def digest(self, seats: Collection[RoleId] = ()) -> str:
        """SHA-256 of the files' content, hexadecimal; empty for a kind that reads none. DataError if one is missing."""
        return "".join(file_digest(self.find(getattr(self, name))) for name in sorted(self.location))

    def find(self, path: str) -> Path:
        """Where a file lies that the settings name; DataError if nowhere."""
        return find_file(path, self._folder)

    def copy_to(self, path: str) -> Self:
        """The same description of a file elsewhere; a relative path does not start from the scenario file's folder."""
        new = self.model_copy(update={"path": path})
        new._folder = ""
        return new

    def elsewhere(self, path: str) -> Data:
        """The same description with new rows from another file, which may lack labels and unused columns.

        Raises:
            DataError: this kind reads no files; the message says which kinds do.
        """
        # type-abstract: find only looks for subclasses of what it is given
        kinds = {kind: find("data", kind, Data) for kind in own_names("data")}
        able = [name for name, kind in kinds.items() if kind.elsewhere is not Data.elsewhere]
        raise DataError(f"data of kind '{self.kind()}' cannot read '{path}'; kinds that can: {', '.join(able)}")

    def rows_of(self, seat: RoleId, path: str) -> Data:
        """`elsewhere`, where one seat has its own new rows; DataError as there."""
        return self.elsewhere(path)

    def known_labels(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """The raw labels of new rows, and which rows have one; (n,) both."""
        labels = self.labels()
        return labels, np.ones(len(labels), dtype=np.bool_)

    def given_split(self, held_out: npt.NDArray[np.bool_], rng: Rng) -> tuple[Rows, Rows]:
        """`split` where the data itself says which rows are held out, (n,).

        ``rows`` and a count of ``test`` are drawn from either side; a fraction is left aside.
        """
        order = rng.numpy().permutation(len(held_out)).astype(np.int64)
        train, test = order[~held_out[order]], order[held_out[order]]
        most = self.test if isinstance(self.test, int) else len(test)
        if len(train) < (self.rows or 1) or len(test) < max(most, 1):
            asked = f"{self.rows or 'all'} training and {max(most, 1)} held-out rows are asked"
            raise DataError(f"{asked} of a data set with {len(train)} training and {len(test)} held-out rows")
        return train[: self.rows], test[:most]


def file_digest(file: Path) -> str:
    """SHA-256 of a data file's content, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
