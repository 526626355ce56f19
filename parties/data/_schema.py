"""What type each column has: inferred once, from a party's training rows, and obeyed for all rows that come later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedsim.parties.data._cells import Array, Missing
from fedsim.parties.data._doubts import check_words
from fedsim.parties.data._places import describe_column, describe_line, find_earliest
from fedsim.parties.data._raw import RawTable
from fedsim.parties.data._spelling import ParseRules, TextColumn, has_zone, is_true_or_false
from fedsim.parties.data._values import (
    ColumnForm,
    ColumnType,
    Floats,
    check_values,
    column_kinds,
    plain_columns,
    read_numbers,
    read_words,
)

if TYPE_CHECKING:
    import pandas as pd

_PADDED = re.compile(r"^0[0-9]+$", re.MULTILINE)


def infer_forms(
    raw: RawTable, rules: ParseRules, types: Mapping[str, ColumnType], notices: list[str]
) -> tuple[list[ColumnForm], dict[str, Floats]]:
    """Infer how each column is to be read, and what `plain_columns` has read of them meanwhile.

    ``types`` overrides the guess; ``notices`` gets what people should know of it.

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
        else:
            found[name] = _infer_text(raw, name, rules, notices)
    texts = (name for name, kind in kinds.items() if kind == "text" and name not in types)
    notices += _note_padded(raw, [name for name in texts if found[name].type == "number"])
    return [found[name] for name in kinds], plain


def _infer_text(raw: RawTable, name: str, rules: ParseRules, notices: list[str]) -> ColumnForm:
    """The form of one column of text that does not spell plain numbers only."""
    column = TextColumn(raw.cells[name].to_numpy(dtype=object), rules)
    if not column.total:
        return ColumnForm(name, "number")
    for form in _candidates(name, column, rules):
        if column.share(form.parser(rules)) == 1:
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


def _note_padded(raw: RawTable, names: list[str]) -> list[str]:
    """A notice for each column of numbers of which some begin with a needless 0: they may be codes, which have no mean."""
    if not names or not _PADDED.search("\n".join(map(str, raw.cells[names].to_numpy(dtype=object).ravel().tolist()))):
        return []
    notices = []
    for name in names:
        cells = raw.cells[name].to_numpy(dtype=object)
        padded = np.array([_PADDED.fullmatch(str(cell)) is not None for cell in cells], dtype=np.bool_)
        if padded.any():
            row = find_earliest(raw, padded)
            notices.append(
                f"{describe_column(raw, name)} is read as numbers, although {describe_line(raw, row)} has '{cells[row]}'; "
                f"if these are codes, write types: {{{name}: category}}"
            )
    return notices


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

    forms, plain = infer_forms(raw, rules, types, [])
    numeric = [form for form in forms if form.type != "category"]
    values = check_values(raw, numeric, read_numbers(raw, numeric, rules, plain), missing)
    found: dict[str, Array] = {form.name: column for form, column in zip(numeric, values, strict=True)}
    for form in forms:
        if form.type == "category":
            cells, holes = read_words(raw, form.name, rules)
            found[form.name] = np.where(holes, np.array(None, dtype=object), cells)
    return pd.DataFrame({form.name: found[form.name] for form in forms})
