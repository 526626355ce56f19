"""From cells to tensors: what is fitted on a party's own training rows and kept, as JSON, for new rows.

scikit-learn has transformers for this, but theirs can only be stored as pickles, which we never load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from fedsim.errors import DataError
from fedsim.parties.classes import LabelEncoder
from fedsim.parties.cut import absent
from fedsim.parties.data._cells import LARGEST, Array, Missing, find_positions
from fedsim.parties.data._doubts import check_count
from fedsim.parties.data._places import describe_column, describe_line, find_earliest, show_value
from fedsim.parties.data._raw import RawTable
from fedsim.parties.data._schema import infer_forms
from fedsim.parties.data._spelling import ParseRules
from fedsim.parties.data._values import ColumnForm, ColumnType, check_values, read_numbers, read_words
from fedsim.parties.stored import dump_state, restore_state

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Encoder", "LabelEncoder"]

Raw: TypeAlias = "RawTable | pd.DataFrame | Array"
"""Features as a data set gives them: a table (n, columns), untyped or typed, or images (n, C, h, w)."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Numeric:
    """A column to centre on its training mean and divide by its training deviation; ``scale`` 0: a constant column.

    Dates are days since 1970, durations seconds, booleans 0 and 1.
    """

    name: str
    mean: float
    scale: float
    type: Literal["number", "boolean", "date", "duration"] = "number"
    percent: bool = False
    zoned: bool | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The one output column."""
        return (self.name,)

    @property
    def form(self) -> ColumnForm:
        """How its cells are read."""
        return ColumnForm(self.name, self.type, self.percent, self.zoned)


@dataclass(frozen=True)
class Cyclic:
    """A column of dates as points on circles: the day of the year, the day of the week and, with ``clock``, the time of day."""

    name: str
    clock: bool
    zoned: bool | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The output columns: ``when year sin``, ``when year cos``, ``when week sin``, ..."""
        return tuple(f"{self.name} {circle} {of}" for circle in self._circles for of in ("sin", "cos"))

    @property
    def form(self) -> ColumnForm:
        """How its cells are read."""
        return ColumnForm(self.name, "date", zoned=self.zoned)

    @property
    def _circles(self) -> tuple[str, ...]:
        return ("year", "week", "day") if self.clock else ("year", "week")

    def apply(self, days: Floats) -> npt.NDArray[np.float32]:
        """The points of days since 1970, (n, outputs); a missing one is at the centre of every circle."""
        there = np.where(np.isnan(days), 0.0, days)
        dates = np.floor(there).astype("datetime64[D]")
        year = (dates - dates.astype("datetime64[Y]")).astype(np.float64) / 365.2425
        turns = {"year": year, "week": there / 7, "day": there}
        angles = (2 * np.pi * turns[circle] for circle in self._circles)
        points = np.stack([of(angle) for angle in angles for of in (np.sin, np.cos)], axis=1)
        points[np.isnan(days)] = 0
        return points.astype(np.float32)


@dataclass(frozen=True)
class Categorical:
    """A column with one output for each category of the training rows, and one for missing cells if there were any."""

    name: str
    categories: tuple[str, ...]
    missing: bool

    @staticmethod
    def fit(raw: RawTable, name: str, rules: ParseRules) -> Categorical:
        """The categories in alphabetical order."""
        cells, missing = read_words(raw, name, rules)
        categories = sorted(set(cells[~missing]))
        check_count(raw, name, categories)
        return Categorical(name, tuple(categories), bool(missing.any()))

    @property
    def names(self) -> tuple[str, ...]:
        """The output columns: ``sex=Female``, ``sex=Male``, ``sex is missing``."""
        return (*(f"{self.name}={c}" for c in self.categories), *([f"{self.name} is missing"] if self.missing else []))

    def apply(self, raw: RawTable, rules: ParseRules, notices: list[str]) -> npt.NDArray[np.float32]:
        """One-hot cells, (n, categories); a category that training did not see is all zeros, and noted."""
        cells, missing = read_words(raw, self.name, rules)
        codes = find_positions(self.categories, cells)
        unseen = (codes < 0) & ~missing
        codes[missing] = len(self.categories) if self.missing else -1
        hot = np.zeros((len(cells), len(self.names)), dtype=np.float32)
        seen = codes >= 0
        hot[seen, codes[seen]] = 1
        if unseen.any():
            row, kinds = find_earliest(raw, unseen), len(set(cells[unseen]))
            found = (
                f"{kinds} categories that training never saw, such as"
                if kinds > 1
                else "a category that training never saw,"
            )
            notices.append(
                f"{describe_column(raw, self.name)} has {found} '{show_value(cells[row])}' in {describe_line(raw, row)}: "
                f"{_cells(int(unseen.sum()))} left without a category"
            )
        if missing.any() and not self.missing:
            row = find_earliest(raw, missing)
            notices.append(
                f"{describe_column(raw, self.name)} has no value in {describe_line(raw, row)}, which training never saw: "
                f"{_cells(int(missing.sum()))} left without a category"
            )
        return hot


def _cells(count: int) -> str:
    return "1 cell is" if count == 1 else f"{count} cells are"


Column = Numeric | Categorical | Cyclic


@dataclass(frozen=True)
class Encoder:
    """A party's preprocessing: the schema of its table, or the identity on images of shape ``image``, (C, h, w).

    Attributes:
        columns: every column in order: its type, and what the training rows said of it.
        missing: what is done with missing cells that are no categories.
        image: the shape of images; None: a table.
        rules: how text was read in the training data.
    """

    columns: tuple[Column, ...] = ()
    missing: Missing = "error"
    image: tuple[int, int, int] | None = None
    rules: ParseRules = field(default_factory=ParseRules)

    @staticmethod
    def fit(
        rows: Raw,
        missing: Missing = "error",
        rules: ParseRules | None = None,
        types: Mapping[str, ColumnType] | None = None,
        notices: list[str] | None = None,
    ) -> Encoder:
        """Learn from the party's training rows, and from no others.

        Args:
            rows: a table (n, columns) or images (n, C, h, w).
            missing: what to do with missing numeric cells: ``error``, or ``mean`` of the training rows.
            rules: how text spells its values; default: `ParseRules`.
            types: by column, its type where it is not to be inferred.
            notices: gets what people should know of the types that were inferred.

        Raises:
            DataError: no rows, a number that is missing or not finite, text that is nearly numbers or has too many values.
        """
        if len(rows.lines if isinstance(rows, RawTable) else rows) == 0:
            raise DataError("there are no training rows to fit the preprocessing on")
        if isinstance(rows, np.ndarray):
            channels, height, width = rows.shape[1:]
            return Encoder(image=(channels, height, width))
        raw, rules = to_raw(rows), rules or ParseRules()
        forms, plain = infer_forms(raw, rules, types or {}, [] if notices is None else notices)
        numeric = [form for form in forms if form.type != "category"]
        values = check_values(raw, numeric, read_numbers(raw, numeric, rules, plain), missing)
        fitted: dict[str, Column] = {
            form.name: _fit_cyclic(form, cells) if form.type == "date" and rules.dates == "cyclic" else column
            for form, cells, column in zip(numeric, values, _fit_numbers(raw, numeric, values), strict=True)
        }
        columns = (fitted.get(form.name) or Categorical.fit(raw, form.name, rules) for form in forms)
        return Encoder(tuple(columns), missing, rules=rules)

    @property
    def names(self) -> tuple[str, ...]:
        """The output columns, ``age``, ``sex=Male``, ...; none for images."""
        return tuple(name for column in self.columns for name in column.names)

    def apply(self, rows: Raw, notices: list[str] | None = None) -> torch.Tensor:
        """Encode any rows: a table to (n, len(names)) float32, images to (n, C, h, w) float32.

        ``notices`` gets what training never saw.

        Raises:
            DataError: rows of another form than those fitted on, a cell that does not fit its column, a number that is
                missing or not finite.
        """
        if isinstance(rows, np.ndarray):
            if rows.shape[1:] != self.image:
                raise DataError(f"images of shape {rows.shape[1:]} do not fit: expected {self.image or 'a table'}")
            return torch.tensor(rows, dtype=torch.float32)
        if self.image is not None:
            raise DataError(f"a table does not fit: expected images of shape {self.image}")
        raw = to_raw(rows)
        absent([column.name for column in self.columns], list(raw.cells.columns))
        return torch.from_numpy(self._encode(raw, [] if notices is None else notices))

    def _encode(self, raw: RawTable, notices: list[str]) -> npt.NDArray[np.float32]:
        starts = np.cumsum([0, *(len(column.names) for column in self.columns)])
        found = np.zeros((len(raw.lines), int(starts[-1])), dtype=np.float32)
        forms = [column.form for column in self.columns if not isinstance(column, Categorical)]
        values = iter(check_values(raw, forms, read_numbers(raw, forms, self.rules), self.missing))
        numeric: list[tuple[int, Numeric, Floats]] = []
        for start, column in zip(starts.tolist(), self.columns, strict=False):
            if isinstance(column, Categorical):
                found[:, start : start + len(column.names)] = column.apply(raw, self.rules, notices)
            elif isinstance(column, Cyclic):
                found[:, start : start + len(column.names)] = column.apply(next(values))
            else:
                numeric.append((start, column, next(values)))
        if numeric:
            at, columns, cells = zip(*numeric, strict=True)
            found[:, list(at)] = _standardise(columns, np.stack(cells)).T
        return found

    def read_as(self, missing: Missing, rules: ParseRules) -> Encoder:
        """The same schema for a file that spells its values otherwise."""
        return replace(self, missing=missing, rules=rules)

    def to_json(self) -> dict[str, Any]:
        """The state as mappings, lists, strings and numbers."""
        return dump_state(self)

    @staticmethod
    def from_json(state: dict[str, Any]) -> Encoder:
        """The encoder that `to_json` described; DataError if it did not."""
        return restore_state(Encoder, state)


def to_raw(rows: RawTable | pd.DataFrame) -> RawTable:
    """Any table as a raw one."""
    if isinstance(rows, RawTable):
        return rows
    if not all(isinstance(name, str) for name in rows.columns):
        rows = rows.rename(columns=str)
    return RawTable(rows, True, "", np.arange(1, len(rows) + 1, dtype=np.int64))


def pick_rows(rows: Raw, picked: npt.NDArray[np.int64]) -> Raw:
    """Some rows of a table or of images, in this order."""
    if isinstance(rows, RawTable):
        return rows.take_rows(picked)
    return rows[picked] if isinstance(rows, np.ndarray) else rows.iloc[picked]


def _fit_numbers(raw: RawTable, forms: Sequence[ColumnForm], values: Floats) -> list[Numeric]:
    """The mean and the standard deviation of the cells that are there, column by column of (D, n)."""
    values = np.ascontiguousarray(values)  # numpy then adds up each row of it as it adds up a column alone
    holes = np.isnan(values)
    means, scales = values.mean(axis=1), values.std(axis=1)
    for k in np.flatnonzero(holes.any(axis=1)).tolist():
        there = values[k][~holes[k]]
        if not len(there):
            raise DataError(f"{describe_column(raw, forms[k].name)} is empty in all training rows; drop it")
        means[k], scales[k] = there.mean(), there.std()
    low, high = np.where(holes, np.inf, values).min(axis=1), np.where(holes, -np.inf, values).max(axis=1)
    scales[low == high] = 0.0  # the deviation of equal cells need not come out as 0
    return [
        Numeric(form.name, mean, scale, form.type, form.percent, form.zoned)  # type: ignore[arg-type]  # no category here
        for form, mean, scale in zip(forms, means.tolist(), scales.tolist(), strict=True)
    ]


def _fit_cyclic(form: ColumnForm, days: Floats) -> Cyclic:
    return Cyclic(form.name, bool((days[~np.isnan(days)] % 1 != 0).any()), form.zoned)


def _standardise(columns: Sequence[Numeric], values: Floats) -> npt.NDArray[np.float32]:
    """Standardised cells, (D, n); missing ones are at the mean, 0, and so is a constant column."""
    means = np.array([column.mean for column in columns])[:, None]
    scales = np.array([column.scale for column in columns])[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.where(np.isnan(values) | (scales == 0), 0.0, (values - means) / scales)
    return np.clip(found, -LARGEST, LARGEST).astype(np.float32)
