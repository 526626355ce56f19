"""What type each column has: inferred once, from a party's training rows, and obeyed for all rows that come later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError
from parties.data._cells import Array, text
from parties.data._doubts import check_words
from parties.data._raw import RawTable
from parties.data._spelling import (
    DAY_US,
    Parser,
    ParseRules,
    TextColumn,
    date_parser,
    has_zone,
    is_true_or_false,
    number_parser,
    parse_boolean,
    parse_duration,
    plain_numbers,
)

if TYPE_CHECKING:
    import pandas as pd

ColumnType = Literal["number", "category", "boolean", "date", "duration"]
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


def infer_forms(
    raw: RawTable, rules: ParseRules, types: Mapping[str, ColumnType], notices: list[str]
) -> list[ColumnForm]:
    """Infer how each column is to be read; ``types`` overrides the guess, ``notices`` gets what people should know of it.

    Raises:
        DataError: a column of text that is nearly all numbers, dates or durations but for some cells, or that has nearly as
            many values as rows; names the cell and what to write.
    """
    kinds, found = column_kinds(raw), dict[str, ColumnForm]()
    plain = plain_columns(raw, kinds, rules)
    for name, kind in kinds.items():
        if name in types:
            found[name] = _overridden(raw, name, kind, types[name], rules)
        elif kind in ("number", "boolean"):
            holes = kind == "boolean" and bool(raw.cells[name].isna().any())
            found[name] = ColumnForm(name, "category" if holes else kind)
        elif kind in ("date", "duration"):
            found[name] = ColumnForm(name, kind, zoned=False if kind == "date" else None)
        elif name in plain:
            found[name] = ColumnForm(name, "number")
            notices += _padded(raw, name)
        else:
            found[name] = _infer_text(raw, name, rules, notices)
    return [found[name] for name in kinds]


def column_kinds(raw: RawTable) -> dict[str, str]:
    """By column, in order, which of ``text``, ``number``, ``boolean``, ``date`` and ``duration`` the file itself makes it.

    Raises:
        DataError: cells of a kind that no encoder knows.
    """
    from pandas.api import types

    known: dict[Any, str] = {}
    found = {}
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


def plain_columns(raw: RawTable, kinds: Mapping[str, str], rules: ParseRules) -> dict[str, Floats]:
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
        found |= {name: column for name, column, some in zip(names, values, full, strict=True) if some}
    elif len(names) > 1:
        half = len(names) // 2
        _collect(cells[:half], names[:half], rules, found)
        _collect(cells[half:], names[half:], rules, found)


def _infer_text(raw: RawTable, name: str, rules: ParseRules, notices: list[str]) -> ColumnForm:
    """The form of one column of text that does not spell plain numbers only."""
    column = TextColumn(raw.cells[name].to_numpy(dtype=object), rules)
    if not column.total:
        return ColumnForm(name, "number")
    for form in _candidates(name, column, rules):
        if column.share(form.parser(rules)) == 1:
            notices += _padded(raw, name) if form.type == "number" and not form.percent else []
            return form
    if column.share(is_true_or_false) == 1 and not column.is_missing().any():
        return ColumnForm(name, "boolean")
    notices += check_words(raw, name, column, rules)
    return ColumnForm(name, "category")


def _candidates(name: str, column: TextColumn, rules: ParseRules) -> list[ColumnForm]:
    """What a column of text could be besides booleans and categories, in the order in which it is tried."""
    first = column.values[column.present[0]]
    zoned = None if rules.date_format is not None else has_zone(first)
    return [
        ColumnForm(name, "number"),
        ColumnForm(name, "number", percent=True),
        ColumnForm(name, "date", zoned=zoned),
        ColumnForm(name, "duration"),
    ]


def _padded(raw: RawTable, name: str) -> list[str]:
    """A notice if numbers begin with a needless 0: they may be codes, of which nobody takes the mean."""
    cells = raw.cells[name].to_numpy(dtype=object)
    for row, cell in enumerate(cells):
        if isinstance(cell, str) and len(cell) > 1 and cell[0] == "0" and cell.isdecimal():
            return [
                f"{describe_column(raw, name)} is read as numbers, although {describe_line(raw, row)} has '{cell}'; "
                f"if these are codes, write types: {{{name}: category}}"
            ]
    return []


def _overridden(raw: RawTable, name: str, kind: str, type: ColumnType, rules: ParseRules) -> ColumnForm:
    """The form of a column whose type the settings say."""
    if kind != "text" or type not in ("number", "date"):
        return ColumnForm(name, type, zoned=False if type == "date" else None)
    column = TextColumn(raw.cells[name].to_numpy(dtype=object), rules)
    fitting = [form for form in _candidates(name, column, rules) if form.type == type] if column.total else []
    best = max(fitting, key=lambda form: column.share(form.parser(rules)), default=None)
    return best or ColumnForm(name, type)


def read_numbers(raw: RawTable, forms: Sequence[ColumnForm], rules: ParseRules) -> Floats:
    """The values of columns that are no categories, (D, n): days of dates, seconds of durations, NaN where one is missing.

    Raises:
        DataError: a cell does not fit its column's form; names file, line, column, value and what was expected.
    """
    values = np.empty((len(forms), len(raw.lines)), dtype=np.float64)
    if not forms:
        return values
    raw = raw.take_columns([form.name for form in forms])
    kinds = column_kinds(raw)
    wanted = {form.name: form for form in forms}
    plain = plain_columns(raw, {name: kind for name, kind in kinds.items() if _is_plain(wanted[name])}, rules)
    typed = [form.name for form in forms if kinds[form.name] in ("number", "boolean")]
    if typed:
        block = raw.cells[typed].to_numpy(dtype=np.float64, na_value=np.nan).T
        plain |= dict(zip(typed, _without(block, rules), strict=True))
    for k, form in enumerate(forms):
        if kinds[form.name] == "text" and form.name in plain:
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
        row = int(np.argmax(wrong))
        refuse_cell(raw, form.name, row, column.values[column.codes[row]], int(wrong.sum()), form.expected(rules))
    return values


def _convert(raw: RawTable, form: ColumnForm, kind: str, plain: Mapping[str, Floats], rules: ParseRules) -> Floats:
    """The values of a column to which the file itself gives a type."""
    fits = kind == form.type or (kind, form.type) in (("number", "boolean"), ("boolean", "number"))
    series = raw.cells[form.name]
    there = series.notna().to_numpy(dtype=bool)
    if not fits and there.any():
        row = int(np.argmax(there))
        refuse_cell(raw, form.name, row, str(series.iloc[row]), int(there.sum()), form.expected(rules))
    if not fits:
        return np.full(len(series), np.nan)
    if kind in ("date", "duration"):
        return _times(series) / (DAY_US if kind == "date" else 1e6)
    values = plain[form.name]
    if form.type == "boolean" and (wrong := ~np.isnan(values) & (values != 0) & (values != 1)).any():
        row = int(np.argmax(wrong))
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


def refuse_cell(raw: RawTable, name: str, row: int, value: str, count: int, expected: str, advice: str = "") -> NoReturn:
    """Raise DataError about a cell that does not fit its column."""
    more = f", the first of {count}" if count > 1 else ""
    advice = f"; {advice}" if advice else ""
    raise DataError(
        f"{describe_column(raw, name)} must be {expected}; found '{show_value(value)}' in {describe_line(raw, row)}{more}{advice}"
    )


def describe_column(raw: RawTable, name: str) -> str:
    """How errors name a column."""
    return f"column '{name}' of {raw.source}" if raw.source else f"column '{name}'"


def describe_line(raw: RawTable, row: int) -> str:
    """Where a row lies in its file."""
    return f"{'row' if raw.typed else 'line'} {raw.lines[row]}"


def show_value(value: str, longest: int = 40) -> str:
    """A value in one line, and not too long a one."""
    line = " ".join(value.split())
    return line if len(line) <= longest else f"{line[:longest]}..."


def check_types(types: Mapping[str, ColumnType], columns: Sequence[str], suggest: Callable[[str], str]) -> None:
    """Raise DataError if ``types`` names a column that is not there."""
    known = set(columns)
    for name in types:
        if name not in known:
            raise DataError(f"types: no column '{name}'{suggest(name)}")


TYPES = get_args(ColumnType)
