"""Doubt columns of text before they become categories: numbers that are spelt otherwise, and names of rows."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fedsim.errors import DataError
from fedsim.parties.data._places import describe_column, describe_line, find_earliest, refuse_column, show_value
from fedsim.parties.data._raw import RawTable
from fedsim.parties.data._spelling import (
    ABSENT_WORDS,
    SPACES,
    Parser,
    ParseRules,
    TextColumn,
    date_parser,
    number_parser,
    parse_duration,
)

MOST_CATEGORIES = 1000
"""Text with more than this is a name, a date or a number misspelt, and would cost as many inputs."""
NEARLY = 0.9
"""A column of which so many cells are numbers is meant to be one."""
DISTINCT = 0.75
"""A column with so many different values a row names the rows."""
FEW_VALUES = 20
"""So many categories are never too many."""
SAMPLE = 8
"""Values that are tried in every other spelling, before all of them are."""
FEW_CODES = 3
"""Spellings such as V57, so many at least, make a column of numbers one of codes."""
DATE_FORMATS = tuple(
    day + time
    for day in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d %B %Y",
                "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y")
    for time in ("", " %H:%M", " %H:%M:%S")
)  # fmt: skip

_CODE = re.compile(r"[A-Za-z]{1,3}-?\d[\d.]*", re.ASCII)


def check_words(raw: RawTable, name: str, column: TextColumn, rules: ParseRules) -> list[str]:
    """Refuse a column that should not be one of categories; returns notices about one that should.

    Raises:
        DataError: names the cell that spoils the column, and what to write.
    """
    _check_other_spellings(raw, name, column, rules)
    notices = _check_nearly(raw, name, column, rules)
    _check_distinct(raw, name, column)
    return notices


def _check_other_spellings(raw: RawTable, name: str, column: TextColumn, rules: ParseRules) -> None:
    """Refuse numbers and dates that other settings would read: all of them, or nearly all of them and more than these do."""
    known = column.share(number_parser(rules.decimal, rules.thousands))
    fitting = {}
    few = [column.values[k] for k in column.present[:SAMPLE]]
    for written, parser in _other_spellings(column, rules).items():
        if 2 * sum(parser(value) is not None for value in few) < len(few):
            continue  # most columns are words: a look at some of them is enough
        share = column.share(parser)
        if share == 1 or (share >= NEARLY and share > known):
            fitting[written] = share, parser
    if not fitting:
        return
    best = max(share for share, _ in fitting.values())
    signs = [text for text, (share, _) in fitting.items() if share == best]
    signs = [text for text in signs if not any(other in text and other != text for other in signs)]
    row, value = _first(raw, column, number_parser(rules.decimal, rules.thousands))
    what = "a date" if signs[0].startswith("date_format") else "numeric"
    advice = f"write {' or '.join(signs)}, or types: {{{name}: category}} if these are names"
    if best < 1:
        parser = next(parser for share, parser in fitting.values() if share == best)
        row, value = _first(raw, column, parser)
        advice = (
            f"with {' or '.join(signs)} nearly all of its cells can be read, but not this one; {_mend(name, value)}"
        )
    refuse_column(raw, name, row, value, 1, what, advice)


def _other_spellings(column: TextColumn, rules: ParseRules) -> Mapping[str, Parser]:
    """What to write, and how cells would be read then; only with signs that stand in the column."""
    signs = set("".join(column.values[k] for k in column.present))
    found: dict[str, Parser] = {}
    for decimal, thousands in ((",", None), (".", None), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'")):
        said = [f'decimal: "{decimal}"'] if decimal != rules.decimal else []
        said += [f'thousands: "{thousands}"'] if thousands not in (None, rules.thousands) else []
        wanted = [sign for sign in (decimal if decimal != rules.decimal else None, thousands) if sign is not None]
        if said and all(signs & set(SPACES.get(sign, sign)) for sign in wanted):
            found[", ".join(said)] = _either(decimal, thousands)
    return found | {f'date_format: "{form}"': date_parser(form) for form in DATE_FORMATS if form != rules.date_format}


def _either(decimal: str, thousands: str | None) -> Parser:
    """Numbers, with or without a percent sign."""
    plain, percent = (number_parser(decimal, thousands, sign) for sign in (False, True))
    return lambda cell: percent(cell) if cell.endswith("%") else plain(cell)


def _check_nearly(raw: RawTable, name: str, column: TextColumn, rules: ParseRules) -> list[str]:
    """Refuse a column that is nearly all numbers, dates or durations; codes among which most are numbers pass."""
    number = number_parser(rules.decimal, rules.thousands)
    percent = number_parser(rules.decimal, rules.thousands, percent=True)
    for what, parser in (("numeric", number), ("a number with a percent sign", percent)):
        if column.share(parser) >= NEARLY:
            if code := _code_among(column, parser):
                return [
                    f"{describe_column(raw, name)} is read as a category: it has codes such as '{code}' among its numbers"
                ]
            _refuse_first(raw, name, column, parser, what)
    money = _without_currency(number)
    if column.share(money) >= NEARLY:
        row, value = _first(raw, column, number)
        advice = f"take the sign of the currency out, or write types: {{{name}: category}} if these are names"
        refuse_column(raw, name, row, value, 1, "numeric", advice)
    either = _either(rules.decimal, rules.thousands)
    if column.share(either) >= NEARLY:
        row, value = _first(raw, column, percent)
        advice = "some of its cells have a percent sign and some have none: write all of them alike"
        refuse_column(raw, name, row, value, 1, "a number with a percent sign", advice)
    for what, parser in (
        (f"a date ({rules.date_format or 'YYYY-MM-DD'})", date_parser(rules.date_format)),
        ("a date (YYYY-MM-DD)", date_parser()),
        ("a duration (HH:MM:SS)", parse_duration),
    ):
        if column.share(parser) >= NEARLY:
            _refuse_first(raw, name, column, parser, what)
    return []


def _without_currency(number: Parser) -> Parser:
    """Numbers, with or without the sign of a currency before or behind them."""
    return lambda cell: number(cell.strip("$\u20ac\u00a3\u00a5 \u00a0"))


def _refuse_first(raw: RawTable, name: str, column: TextColumn, parser: Parser, what: str) -> None:
    row, value = _first(raw, column, parser)
    spoilt = [k for k in column.present if parser(column.values[k]) is None]
    count = int(column.counts[spoilt].sum())
    nearly = f"{column.total - count} of {column.total} cells are" if spoilt else "all cells are, but of two kinds"
    refuse_column(raw, name, row, value, count, what, f"{nearly}: {_mend(name, value)}")


def _mend(name: str, value: str) -> str:
    """What to write about a cell that spoils a column."""
    category = f"types: {{{name}: category}} if these are names"
    missing = f'na: ["{show_value(value)}"] if it stands for a missing cell'
    first, second = (missing, "mend it") if value.lower() in ABSENT_WORDS else ("mend it", missing)
    return f"write {first}, {second}, or {category}" if first == missing else f"{first}, write {second}, or {category}"


def _code_among(column: TextColumn, parser: Parser) -> str:
    """A code such as V57 if what is no number is codes, several of them; else nothing."""
    words = [column.values[k] for k in column.present if parser(column.values[k]) is None]
    words = [word for word in words if word.lower() not in ABSENT_WORDS]
    codes = [word for word in words if _CODE.fullmatch(word)]
    return codes[0] if len(codes) >= FEW_CODES and len(codes) >= NEARLY * len(words) else ""


def _check_distinct(raw: RawTable, name: str, column: TextColumn) -> None:
    """Refuse a column whose values hardly repeat."""
    count, total = len(column.present), column.total
    if count > MOST_CATEGORIES:
        check_count(raw, name, sorted(column.values[k] for k in column.present))
    if count <= FEW_VALUES or count < DISTINCT * total:
        return
    row = find_earliest(raw, column.has_spelling(column.present))
    example = f"such as '{show_value(column.values[column.codes[row]])}' in {describe_line(raw, row)}"
    raise DataError(
        f"{describe_column(raw, name)} has {count} different values in {total} rows, {example}: it names rows, and new rows "
        f"have other names; drop it, or write types: {{{name}: category}}"
    )


def check_count(raw: RawTable, name: str, categories: list[str]) -> None:
    """Refuse more categories than a model has inputs for."""
    if len(categories) > MOST_CATEGORIES:
        found = f"{len(categories)} categories, such as '{show_value(categories[0])}'"
        allowed = f"allowed: {MOST_CATEGORIES}; drop it, or mend its numbers"
        raise DataError(f"{describe_column(raw, name)} has {found}; {allowed}")


def _first(raw: RawTable, column: TextColumn, parser: Parser) -> tuple[int, str]:
    """The first cell that does not parse: its row, and what it holds; of a column that parses the first cell at all."""
    wrong = [k for k in column.present if parser(column.values[k]) is None]
    row = find_earliest(raw, column.has_spelling(wrong or column.present))
    return row, column.values[column.codes[row]]
