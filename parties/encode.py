"""From cells to tensors: what is fitted on a party's own training rows and kept, as JSON, for new rows.

scikit-learn has transformers for this, but theirs can only be stored as pickles, which we never load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter, ValidationError

from fedsim.errors import DataError, suggest
from fedsim.parties.cut import absent
from fedsim.parties.data._cells import LARGEST, Array, Missing, numbers, text

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 1000
"""Text with more than this is a name, a date or a number misspelt, and would cost as many inputs."""

T = TypeVar("T")


@dataclass(frozen=True)
class Numeric:
    """A column to centre on its training mean and divide by its training deviation; ``scale`` 0: a constant column."""

    name: str
    mean: float
    scale: float

    @staticmethod
    def fit(column: pd.Series[Any], missing: Missing) -> Numeric:
        """The mean and the standard deviation of the cells that are there."""
        cells = numbers(column, f"column '{column.name}'", missing)
        if not len(there := cells[~np.isnan(cells)]):
            raise DataError(f"column '{column.name}' is empty in all training rows; drop it")
        constant = there.min() == there.max()  # the deviation of equal cells need not come out as 0
        return Numeric(str(column.name), float(there.mean()), 0.0 if constant else float(there.std()))

    @property
    def names(self) -> tuple[str, ...]:
        """The one output column."""
        return (self.name,)

    def apply(self, column: pd.Series[Any], missing: Missing) -> npt.NDArray[np.float32]:
        """Standardised cells, (n, 1); missing ones, where allowed, are at the mean: 0."""
        cells = numbers(column, f"column '{self.name}'", missing)
        if self.scale == 0:
            return np.zeros((len(cells), 1), dtype=np.float32)
        cells = np.where(np.isnan(cells), 0.0, (cells - self.mean) / self.scale)
        return np.clip(cells[:, None], -LARGEST, LARGEST).astype(np.float32)


@dataclass(frozen=True)
class Categorical:
    """A column with one output for each category of the training rows, and one for missing cells if there were any."""

    name: str
    categories: tuple[str, ...]
    missing: bool

    @staticmethod
    def fit(column: pd.Series[Any]) -> Categorical:
        """The categories in alphabetical order."""
        cells, missing = text(column)
        categories = tuple(sorted(set(cells[~missing])))
        if len(categories) > MOST_CATEGORIES:
            found = f"{len(categories)} categories, such as '{categories[0]}'"
            allowed = f"allowed: {MOST_CATEGORIES}; drop it, or mend its numbers"
            raise DataError(f"column '{column.name}' has {found}; {allowed}")
        return Categorical(str(column.name), categories, bool(missing.any()))

    @property
    def names(self) -> tuple[str, ...]:
        """The output columns: ``sex=Female``, ``sex=Male``, ``sex is missing``."""
        return (*(f"{self.name}={c}" for c in self.categories), *([f"{self.name} is missing"] if self.missing else []))

    def apply(self, column: pd.Series[Any]) -> npt.NDArray[np.float32]:
        """One-hot cells, (n, categories); a category that training did not see is all zeros."""
        cells, missing = text(column)
        codes = _positions(self.categories, cells)
        codes[missing] = len(self.categories) if self.missing else -1
        hot = np.zeros((len(cells), len(self.names)), dtype=np.float32)
        seen = codes >= 0
        hot[seen, codes[seen]] = 1
        return hot


@dataclass(frozen=True)
class Encoder:
    """A party's preprocessing: of table columns, or the identity on images of shape ``image``, (C, h, w)."""

    columns: tuple[Numeric | Categorical, ...] = ()
    missing: Missing = "error"
    image: tuple[int, int, int] | None = None

    @staticmethod
    def fit(rows: pd.DataFrame | Array, missing: Missing = "error") -> Encoder:
        """Learn from the party's training rows, and from no others.

        Args:
            rows: a table (n, columns) or images (n, C, h, w).
            missing: what to do with missing numeric cells: ``error``, or ``mean`` of the training rows.

        Raises:
            DataError: no rows, a number that is missing or not finite, dates, text with too many categories.
        """
        if len(rows) == 0:
            raise DataError("there are no training rows to fit the preprocessing on")
        if isinstance(rows, np.ndarray):
            channels, height, width = rows.shape[1:]
            return Encoder(image=(channels, height, width))
        return Encoder(tuple(_fit(rows[name], missing) for name in rows.columns), missing)

    @property
    def names(self) -> tuple[str, ...]:
        """The output columns, ``age``, ``sex=Male``, ...; none for images."""
        return tuple(name for column in self.columns for name in column.names)

    def apply(self, rows: pd.DataFrame | Array) -> torch.Tensor:
        """Encode any rows: a table to (n, len(names)) float32, images to (n, C, h, w) float32.

        Raises:
            DataError: rows of another form than those fitted on, a number that is missing or not finite.
        """
        if isinstance(rows, np.ndarray):
            if rows.shape[1:] != self.image:
                raise DataError(f"images of shape {rows.shape[1:]} do not fit: expected {self.image or 'a table'}")
            return torch.tensor(rows, dtype=torch.float32)
        if self.image is not None:
            raise DataError(f"a table does not fit: expected images of shape {self.image}")
        absent([column.name for column in self.columns], list(rows.columns))
        blocks = [
            c.apply(rows[c.name], self.missing) if isinstance(c, Numeric) else c.apply(rows[c.name])
            for c in self.columns
        ]
        return torch.from_numpy(np.concatenate(blocks, axis=1))

    def to_json(self) -> dict[str, Any]:
        """The state as mappings, lists, strings and numbers."""
        return _dump(self)

    @staticmethod
    def from_json(state: dict[str, Any]) -> Encoder:
        """The encoder that `to_json` described; DataError if it did not."""
        return _restore(Encoder, state)


@dataclass(frozen=True)
class LabelEncoder:
    """The classes in their order: numeric where all of them are numbers, alphabetical otherwise."""

    classes: tuple[str, ...]

    @staticmethod
    def fit(labels: Array) -> LabelEncoder:
        """Learn the classes of the training labels, (n,); DataError if there are fewer than two."""
        found = set(_label_text(labels))
        if len(found) < 2:
            only = f"only one class, '{found.pop()}'" if found else "no rows"
            raise DataError(f"the training labels have {only}; at least two classes are needed")
        key = _number if all(_number(c) is not None for c in found) else str
        return LabelEncoder(tuple(sorted(sorted(found), key=key)))  # type: ignore[arg-type]  # no number here is None

    def apply(self, labels: Array) -> torch.Tensor:
        """The classes as numbers from 0, (n,) int64; DataError names a label that training did not see."""
        cells = _label_text(labels)
        codes = _positions(self.classes, cells)
        if (unseen := codes < 0).any():
            label = str(cells[unseen][0])
            raise DataError(f"label '{label}' is not among the training labels{suggest(label, self.classes)}")
        return torch.from_numpy(codes)

    def to_json(self) -> dict[str, Any]:
        """The state as mappings, lists and strings."""
        return _dump(self)

    @staticmethod
    def from_json(state: dict[str, Any]) -> LabelEncoder:
        """The encoder that `to_json` described; DataError if it did not."""
        return _restore(LabelEncoder, state)


def _fit(column: pd.Series[Any], missing: Missing) -> Numeric | Categorical:
    from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype, is_timedelta64_dtype

    if is_datetime64_any_dtype(column) or is_timedelta64_dtype(column):
        raise DataError(f"column '{column.name}' holds dates or times; make numbers of them, or drop it")
    return Numeric.fit(column, missing) if is_numeric_dtype(column) else Categorical.fit(column)


def _positions(known: tuple[str, ...], cells: Array) -> npt.NDArray[np.int64]:
    """Where in ``known`` each cell is, (n,); -1 where it is not."""
    import pandas as pd

    return pd.Index(known, dtype=object).get_indexer(pd.Index(cells, dtype=object)).astype(np.int64)


def _label_text(labels: Array) -> Array:
    import pandas as pd

    cells, missing = text(pd.Series(labels))
    if missing.any():
        raise DataError(f"{missing.sum()} labels are missing; every row needs one")
    return cells


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _dump(value: object) -> dict[str, Any]:
    state: dict[str, Any] = TypeAdapter(type(value)).dump_python(value, mode="json")
    return state


def _restore(kind: type[T], state: dict[str, Any]) -> T:
    try:
        return TypeAdapter(kind).validate_python(state)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"not a state of {kind.__name__}: {where}: {first['msg']}") from error
