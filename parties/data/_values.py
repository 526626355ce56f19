"""Read columns whose types are known: cells to numbers or words, and an error about each that does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError
from fedsim.parties.data._cells import LARGEST, Array, Missing, text
from fedsim.parties.data._places import describe_column, describe_line, find_earliest, refuse_cell
from fedsim.parties.data._raw import RawTable
from fedsim.parties.data._spelling import (
    DAY_US,
    Parser,
    ParseRules,
    TextColumn,
    date_parser,
    number_parser,
    parse_boolean,
    parse_duration,
    plain_numbers,
)

if TYPE_CHECKING:
    import pandas as pd

ColumnType = Literal["number", "category", "boolean", "date", "duration"]
Kind = Literal["text", "number", "boolean", "date", "duration"]
"""What a file that knows types makes of a column; of text it knows no more."""
Floats = npt.NDArray[np.float64]
WORDS: Mapping[str, str] = {
    "number": "numeric",
    "boolean": "a boolean (true or false)",
    "date": "a date (YYYY-MM-DD)",
    "duration": "a duration (HH:MM:SS)",
}
"""What a cell of each type must be, in errors."""


@dataclass(frozen=True)
class ColumnForm:
    """How the cells of one column are read.

    Attributes:
        name: of the column.
        type: what they are.
        percent: whether numbers have a percent sign, all of them.
        zoned: whether dates name a time zone, all of them; None: not dates.
    """

    name: str
    type: ColumnType
    percent: bool = False
    zoned: bool | None = None

    def parser(self, rules: ParseRules) -> Parser:
        """What reads one cell of text."""
        if self.type == "number":
            return number_parser(rules.decimal, rules.thousands, self.percent)
        if self.type == "date":
            return date_parser(rules.date_format, self.zoned)
        return parse_boolean if self.type == "boolean" else parse_duration

    def expected(self, rules: ParseRules) -> str:
        """What a cell must be, in errors."""
        if self.percent:
            return "a number with a percent sign"
        if self.type == "date" and rules.date_format is not None:
            return f"a date ({rules.date_format})"
        if self.type == "date" and self.zoned:
            return "a date and time with a time zone (YYYY-MM-DDTHH:MM:SSZ)"
        return WORDS[self.type]


def column_kinds(raw: RawTable) -> dict[str, Kind]:
    """By column, in order, which of ``text``, ``number``, ``boolean``, ``date`` and ``duration`` the file itself makes it.

    Raises:
        DataError: cells of a kind that no encoder knows.
    """
    from pandas.api import types

    known: dict[Any, Kind] = {}
    found = dict[str, Kind]()
    for name, dtype in zip(raw.cells.columns, raw.cells.dtypes.tolist(), strict=True):
        if dtype not in known:
            known[dtype] = (
                "boolean"
                if types.is_bool_dtype(dtype)
                else "number"
                if types.is_numeric_dtype(dtype)
                else "date"
                if types.is_datetime64_any_dtype(dtype)
                else "duration"
                if types.is_timedelta64_dtype(dtype)
                else "text"
            )
        found[str(name)] = known[dtype]
    return found


def plain_columns(raw: RawTable, kinds: Mapping[str, Kind], rules: ParseRules) -> dict[str, Floats]:
    """Columns of text that spell nothing but plain numbers, (n,) each: nearly all columns of most tables, read at once."""
    if rules.decimal != "." or rules.thousands is not None:
        return {}
    names = [name for name, kind in kinds.items() if kind == "text"]
    if not names or not len(raw.lines):
        return {}
    cells = np.ascontiguousarray(raw.cells[names].to_numpy(dtype=object).T)
    likely = [k for k, column in enumerate(cells) if _may_be_numbers(column)]
    found: dict[str, Floats] = {}
    _collect(cells[likely], [names[k] for k in likely], rules, found)
    return found


def _may_be_numbers(column: Array) -> bool:
    """Whether the first and the last cell of a column could be numbers: the others are then worth a look."""
    return all(not isinstance(cell, str) or not cell or cell[-1] in "0123456789." for cell in (column[0], column[-1]))


def _collect(cells: Array, names: Sequence[str], rules: ParseRules, found: dict[str, Floats]) -> None:
    """Read columns (D, n) together; where some of them are no numbers, halve by halve."""
    if not names:
        return
    values = plain_numbers(cells, rules.na)
    if values is not None:
        full = ~np.isnan(values).all(axis=1)
        found |= {name: column for name, column, some in zip(names, values, np.atleast_1d(full), strict=True) if some}
    elif len(names) > 1:
        half = len(names) // 2
        _collect(cells[:half], names[:half], rules, found)
        _collect(cells[half:], names[half:], rules, found)


def read_numbers(
    raw: RawTable, forms: Sequence[ColumnForm], rules: ParseRules, known: Mapping[str, Floats] | None = None
) -> Floats:
    """The values of columns that are no categories, (D, n): days of dates, seconds of durations, NaN where one is missing.

    ``known`` is what `plain_columns` has read of them.

    Raises:
        DataError: a cell does not fit its column's form; names file, line, column, value and what was expected.
    """
    values = np.empty((len(forms), len(raw.lines)), dtype=np.float64)
    if not forms:
        return values
    raw = raw.take_columns([form.name for form in forms])
    kinds = column_kinds(raw)
    wanted = {form.name: form for form in forms}
    if known is None:
        known = plain_columns(raw, {name: kind for name, kind in kinds.items() if _is_plain(wanted[name])}, rules)
    plain = dict(known)
    typed = [form.name for form in forms if kinds[form.name] in ("number", "boolean")]
    if typed:
        block = raw.cells[typed].to_numpy(dtype=np.float64, na_value=np.nan).T
        plain |= dict(zip(typed, _without(block, rules), strict=True))
    for k, form in enumerate(forms):
        if kinds[form.name] == "text" and form.name in plain and _is_plain(form):
            values[k] = plain[form.name]
        elif kinds[form.name] == "text":
            values[k] = _parse(raw, form, rules)
        else:
            values[k] = _convert(raw, form, kinds[form.name], plain, rules)
    return values


def _is_plain(form: ColumnForm) -> bool:
    return form.type == "number" and not form.percent


def _without(block: Floats, rules: ParseRules) -> Floats:
    """Numbers of a file that knows types, NaN where one of ``na`` stands."""
    for word in rules.na:
        if (number := number_parser()(word)) is not None:
            block = np.where(block == number, np.nan, block)
    return block


def _parse(raw: RawTable, form: ColumnForm, rules: ParseRules) -> Floats:
    column = TextColumn(raw.cells[form.name].to_numpy(dtype=object), rules)
    values, wrong = column.parse(form.parser(rules))
    if wrong.any():
        row = find_earliest(raw, wrong)
        refuse_cell(raw, form.name, row, column.values[column.codes[row]], int(wrong.sum()), form.expected(rules))
    return values


def _convert(raw: RawTable, form: ColumnForm, kind: str, plain: Mapping[str, Floats], rules: ParseRules) -> Floats:
    """The values of a column to which the file itself gives a type."""
    fits = kind == form.type or (kind, form.type) in (("number", "boolean"), ("boolean", "number"))
    series = raw.cells[form.name]
    there = series.notna().to_numpy(dtype=bool)
    if not fits and there.any():
        row = find_earliest(raw, there)
        refuse_cell(raw, form.name, row, str(series.iloc[row]), int(there.sum()), form.expected(rules))
    if not fits:
        return np.full(len(series), np.nan)
    if kind in ("date", "duration"):
        return _times(series) / (DAY_US if kind == "date" else 1e6)
    values = plain[form.name]
    if form.type == "boolean" and (wrong := ~np.isnan(values) & (values != 0) & (values != 1)).any():
        row = find_earliest(raw, wrong)
        refuse_cell(raw, form.name, row, f"{values[row]:g}", int(wrong.sum()), form.expected(rules))
    return values


def _times(series: pd.Series[Any]) -> Floats:
    """Microseconds of dates (since 1970, in UTC) or of durations; NaN where one is missing."""
    is_date = series.dtype.kind == "M"
    if is_date and getattr(series.dtype, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    times = series.to_numpy(dtype="datetime64[us]" if is_date else "timedelta64[us]")
    return np.where(np.isnat(times), np.nan, times.astype(np.int64).astype(np.float64))


def read_words(raw: RawTable, name: str, rules: ParseRules) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The cells of a column of categories as text, without spaces around them, and which are missing; (n,) both."""
    series = raw.cells[name]
    if column_kinds(raw.take_columns([name]))[name] != "text":
        cells, missing = text(series)
        return cells, missing | np.isin(cells, list(rules.na))
    column = TextColumn(series.to_numpy(dtype=object), rules)
    return np.array([*column.values, ""], dtype=object)[column.codes], column.is_missing()


def check_values(raw: RawTable, forms: Sequence[ColumnForm], values: Floats, missing: Missing) -> Floats:
    """The values (D, n) as they are; DataError if one is missing under ``error``, or not finite in float32."""
    holes = np.isnan(values)
    if missing == "error" and holes.any():
        k = int(np.argmax(holes.any(axis=1)))
        first = describe_line(raw, find_earliest(raw, holes[k]))
        raise DataError(
            f"{describe_column(raw, forms[k].name)} has {holes[k].sum()} missing cells (NaN), the first in {first}; "
            "mend them, or set 'missing: mean'"
        )
    if (wrong := np.abs(np.where(holes, 0.0, values)) > LARGEST).any():
        k = int(np.argmax(wrong.any(axis=1)))
        first = describe_line(raw, find_earliest(raw, wrong[k]))
        raise DataError(
            f"{describe_column(raw, forms[k].name)} has {wrong[k].sum()} cells that are infinite or beyond float32, "
            f"the first in {first}"
        )
    return values
