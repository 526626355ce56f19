"""What type each column has: inferred once, from a party's training rows, and obeyed for all rows that come later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedsim.parties.data._cells import Array, Missing
from fedsim.parties.data._doubts import check_words
from fedsim.parties.data._places import describe_column, describe_line
from fedsim.parties.data._raw import RawTable
from fedsim.parties.data._spelling import ParseRules, TextColumn, has_zone, is_true_or_false
from fedsim.parties.data._values import (
    ColumnForm,
    ColumnType,
    check_values,
    column_kinds,
    plain_columns,
    read_numbers,
    read_words,
)

if TYPE_CHECKING:
    import pandas as pd


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


def read_table(raw: RawTable, missing: Missing, rules: ParseRules, types: Mapping[str, ColumnType]) -> pd.DataFrame:
    """All rows with the types that follow from all of them, for whoever trains nothing: numbers, and text.

    Raises:
        DataError: see `infer_forms`, `read_numbers` and `check_values`.
    """
    import pandas as pd

    forms = infer_forms(raw, rules, types, [])
    numeric = [form for form in forms if form.type != "category"]
    values = check_values(raw, numeric, read_numbers(raw, numeric, rules), missing)
    found: dict[str, Array] = {form.name: column for form, column in zip(numeric, values, strict=True)}
    for form in forms:
        if form.type == "category":
            cells, holes = read_words(raw, form.name, rules)
            found[form.name] = np.where(holes, np.array(None, dtype=object), cells)
    return pd.DataFrame({form.name: found[form.name] for form in forms})
