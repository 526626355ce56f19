"""Parse text cells into numbers, dates, durations and booleans.

A cell parses only if all of it does; nothing is guessed, so no number silently becomes another one. Numbers are rounded
correctly: they equal what ``float`` makes of their digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedsim.parties.data._cells import Array

Parser = Callable[[str], float | None]
"""From a cell without spaces around it to its value; None if it spells none."""
DateParts = Literal["days", "cyclic"]

MINUS = "\u2212"
SPACES = {" ": " \u00a0\u202f\u2009", "'": "'\u2019"}
"""Signs that are written for one another as a thousands separator."""
ABSENT_WORDS = frozenset({"na", "n/a", "nan", "null", "none", "nil", "?", "-", "--", ".", "unknown", "missing", "#n/a"})
"""What people write where a cell is missing, in lower case; only said in errors, never assumed."""
TRUE, FALSE = frozenset({"true", "t", "yes", "y", "1"}), frozenset({"false", "f", "no", "n", "0"})
EPOCH = datetime(1970, 1, 1)
DAY_US = 86_400_000_000
PLAIN_SIGNS = b"0123456789+-.eE\n"

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\s?(?P<zone>Z|UTC|[+-]\d\d:?\d\d)?)?", re.ASCII
)
_CLOCK = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<days>\d+) ?d(?:ays?)?,? ?)?"
    r"(?P<hours>\d{1,4}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d(?:\.\d+)?))?",
    re.ASCII,
)
_PERIOD = re.compile(
    r"(?P<sign>[+-]?)P(?=.)(?:(?P<days>\d+)D)?(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class ParseRules:
    """How the text of a file spells its values.

    Attributes:
        decimal: the decimal sign.
        thousands: the sign between groups of three digits; None: there is none.
        na: what stands in a cell whose value is missing, besides nothing at all.
        dates: what becomes of a date: the number of days since 1970, or its parts as points on circles.
        date_format: how dates are written, in the signs of ``strptime``; None: ISO 8601.
    """

    decimal: str = "."
    thousands: str | None = None
    na: tuple[str, ...] = ()
    dates: DateParts = "days"
    date_format: str | None = None

    def is_missing(self, cell: str) -> bool:
        """Whether a cell without spaces around it stands for a missing value."""
        return not cell or cell in self.na


@lru_cache(maxsize=64)
def number_parser(decimal: str = ".", thousands: str | None = None, percent: bool = False) -> Parser:
    """A parser of numbers; with ``percent`` of those that end in a percent sign, and of no others: ``5 %`` is 0.05."""
    group = f"[{re.escape(SPACES.get(thousands, thousands))}]" if thousands else ""
    whole = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)" if group else r"\d+"
    point = re.escape(decimal)
    number = re.compile(
        rf"([+-]?(?:{whole}(?:{point}\d*)?|{point}\d+))(?:[eE]([+-]?\d{{1,9}}))?" + (r"\s*%" if percent else ""),
        re.ASCII,
    )
    infinite = re.compile(r"[+-]?inf(?:inity)?", re.ASCII | re.IGNORECASE)

    def parse(cell: str) -> float | None:
        cell = cell.replace(MINUS, "-")
        if (match := number.fullmatch(cell)) is None:
            return float(cell) if infinite.fullmatch(cell) and not percent else None
        digits = re.sub(group, "", match[1]) if group else match[1]
        exponent = int(match[2] or 0) - 2 * percent
        return float(f"{digits.replace(decimal, '.')}e{exponent}")

    return parse


def parse_boolean(cell: str) -> float | None:
    """1 for true, yes, y, t and 1, 0 for their opposites, in any case."""
    word = cell.lower()
    return 1.0 if word in TRUE else 0.0 if word in FALSE else None


def is_true_or_false(cell: str) -> bool:
    """Whether a cell is ``true`` or ``false``, in any case."""
    return cell.lower() in ("true", "false")


def date_parser(form: str | None = None, zoned: bool | None = None) -> Parser:
    """A parser of dates, in days since 1970.

    Args:
        form: how they are written, for ``strptime``; None: ISO 8601, such as ``2024-01-31`` or ``2024-01-31T08:30:00Z``.
        zoned: of ISO 8601, whether they name a time zone; None: either. One column has either kind, as nobody knows by how
            much the other is off.
    """

    def parse(cell: str) -> float | None:
        try:
            if form is not None:
                return days_of(datetime.strptime(cell, form))
            match = _ISO.fullmatch(cell)
            if match is None or (zoned is not None and zoned != (match["zone"] is not None)):
                return None
            return days_of(datetime.fromisoformat(re.sub(r"\s?UTC$", "Z", cell).replace(",", ".")))
        except (ValueError, OverflowError):
            return None

    return parse


def days_of(moment: datetime) -> float:
    """Days since 1970; with a time zone, of the same moment in UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - EPOCH) // timedelta(microseconds=1) / DAY_US


def has_zone(cell: str) -> bool:
    """Whether an ISO date names a time zone."""
    match = _ISO.fullmatch(cell)
    return match is not None and match["zone"] is not None


def parse_duration(cell: str) -> float | None:
    """Seconds of ``08:30``, ``8:30:15.5``, ``2 days 01:00:00`` or ``P2DT1H``."""
    cell = cell.replace(MINUS, "-")
    match = _CLOCK.fullmatch(cell) or _PERIOD.fullmatch(cell)
    if match is None:
        return None
    days, hours, minutes = (int(match[part] or 0) for part in ("days", "hours", "minutes"))
    seconds = 60 * (60 * (24 * days + hours) + minutes) + float(match["seconds"] or 0)
    return -seconds if match["sign"] == "-" else seconds


def plain_numbers(cells: Array, na: Iterable[str] = ()) -> npt.NDArray[np.float64] | None:
    """All cells at once, of any shape, if each is empty or spells a number without any sign but point, sign and exponent.

    Missing cells are NaN. None: some cell needs a closer look.
    """
    missing = np.zeros(cells.shape, dtype=np.bool_)
    for word in ("", *na):
        missing |= cells == word
    there = cells[~missing]
    try:
        text = "\n".join(there.tolist()).encode("utf-8", "surrogatepass")
        if text.translate(None, PLAIN_SIGNS):
            return None
        return np.where(missing, "nan", cells).astype(np.float64)
    except (TypeError, ValueError):  # a cell that is no text, or no number for all its digits
        return None


class TextColumn:
    """The cells of a column of text: each spelling once, without spaces around it.

    Attributes:
        values: every spelling.
        codes: of each row, which spelling it has, (n,) int64; -1 where the file itself has no value.
        counts: of each spelling, in how many rows it stands, (U,).
        missing: of each spelling, whether it stands for a missing value, (U,) bool.
    """

    def __init__(self, cells: Array, rules: ParseRules) -> None:
        import pandas as pd

        codes, found = pd.factorize(cells)
        known: dict[str, int] = {}
        place = [known.setdefault(str(value).strip(), len(known)) for value in found.tolist()]
        self.values = list(known)
        self.codes = np.append(np.array(place, dtype=np.int64), -1)[codes]
        self.counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))
        self.missing = np.array([rules.is_missing(value) for value in self.values], dtype=np.bool_)

    @property
    def present(self) -> list[int]:
        """Which spellings stand for a value."""
        return [int(k) for k in np.flatnonzero(~self.missing)]

    @property
    def total(self) -> int:
        """How many cells hold a value."""
        return int(self.counts[~self.missing].sum())

    def is_missing(self) -> npt.NDArray[np.bool_]:
        """Which rows have no value, (n,)."""
        gone: npt.NDArray[np.bool_] = np.append(self.missing, True)[self.codes]
        return gone

    def parse(self, parser: Parser) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """The value of each row, NaN where it is missing, and which rows hold something that does not parse; (n,) both."""
        found = [None if gone else parser(value) for value, gone in zip(self.values, self.missing, strict=True)]
        values = np.array([np.nan if each is None else each for each in found] + [np.nan])
        wrong = np.array([each is None for each in found] + [False]) & ~np.append(self.missing, True)
        return values[self.codes], wrong[self.codes]

    def share(self, accepts: Callable[[str], object]) -> float:
        """Which share of the cells that hold a value is spelt so that ``accepts`` gives something else than None or False."""
        good = [k for k in self.present if accepts(self.values[k]) not in (None, False)]
        return float(self.counts[good].sum() / max(self.total, 1))

    def has_spelling(self, spellings: Iterable[int]) -> npt.NDArray[np.bool_]:
        """Which rows have one of these spellings, (n,)."""
        return np.isin(self.codes, list(spellings))
