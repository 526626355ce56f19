"""Compare the names of columns: spaces around them and the form of Unicode do not count."""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from fedsim.errors import DataError

HEADLESS = "; if its first line is a row of data and no header line, name the columns with 'names'"
TRUTHS = {True: "yes, on or true", False: "no, off or false", None: "nothing"}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def normalise_name(name: str) -> str:
    """Return the name of a column as it is compared: without spaces around it, in Unicode's form NFC."""
    return unicodedata.normalize("NFC", name).strip()


def spell_name(value: Any) -> Any:
    """Return what YAML reads as a number as the text that it is the name of; anything else as it is.

    Raises:
        ValueError: YAML reads a truth value, a date or nothing where a name should be.
    """
    if isinstance(value, bool) or value is None or isinstance(value, datetime.date):
        found = f"the date {value}" if isinstance(value, datetime.date) else TRUTHS[value]
        raise ValueError(f"expected the name of a column; YAML reads {found} there: put the name in quotes")
    return str(value) if isinstance(value, int | float) else value


ColumnName = Annotated[str, BeforeValidator(spell_name), AfterValidator(normalise_name)]
"""The name of a column in a scenario file, as it is compared; a bare ``2020`` is a name, too."""


def spell_columns(value: Any) -> Any:
    """Return a party's columns, or a list of names, with numbers as `spell_name` spells them."""
    return [spell_name(each) for each in value] if isinstance(value, list | tuple) else spell_name(value)


def distinguish_names(spelt: Sequence[str], source: str) -> dict[str, str]:
    """Return the normalised names of columns, and how the file spells each; one without is ``Unnamed: 0`` by its position.

    Args:
        spelt: the names in the file.
        source: how errors name the file.

    Raises:
        DataError: two columns have one name.
    """
    names: dict[str, str] = {}
    for k, spelling in enumerate(spelt):
        name = normalise_name(spelling) or f"Unnamed: {k}"
        if name in names:
            first = list(names).index(name)
            written = "" if spelt[first] == spelling else f", written {spelt[first]!r} and {spelling!r}"
            found = f"{source} has two columns named '{name}': column {first + 1} and column {k + 1}{written}"
            raise DataError(f"{found}; give each a name of its own{HEADLESS if look_like_data(spelt) else ''}")
        names[name] = spelling
    return names


def look_like_data(names: Sequence[str]) -> bool:
    """Whether the names of columns look like the first row of a file without a header line.

    Whole numbers that count up from 0 or 1 are names that tools give to columns without any.
    """
    numbers = [name for name in names if NUMBER.fullmatch(name.strip())]
    counted = {str(k) for k in range(len(names) + 1)}
    return len(numbers) > 1 and 3 * len(numbers) > len(names) and not counted.issuperset(numbers)
