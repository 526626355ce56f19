"""The settings of a data set that say how a csv file is written."""

from __future__ import annotations

import codecs
from typing import Any

from pydantic import Field, field_validator

from fedsim.errors import DataError
from fedsim.parties.column_names import ColumnName, distinguish_names
from fedsim.parties.data._csv_faults import SEPARATORS
from fedsim.plugins import Settings

SPELLINGS = {"\\t": "\t", "tab": "\t"}


class CsvSettings(Settings):
    """How the text of a csv file is split into cells; parquet and npz files need none of it."""

    separator: str = Field(",", description="the character between two cells of a csv file; '\\t' is a tab")
    encoding: str | None = Field(
        None, description="of a csv file, such as cp1252 or utf-16-le; none: UTF-8, or what a byte order mark says"
    )

    @field_validator("separator", mode="before")
    @classmethod
    def _one_character(cls, value: Any) -> Any:
        value = SPELLINGS.get(value, value) if isinstance(value, str) else value
        if not isinstance(value, str) or len(value) != 1 or value in '"\r\n\0\ufeff':
            usual = ", ".join(SEPARATORS.values())
            raise ValueError(f"expected one character and no quote, such as {usual}; found {value!r}")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            found = codecs.lookup(value) if value is not None else None
        except (LookupError, ValueError) as error:
            raise ValueError(f"no encoding '{value}'; known are, for instance, utf-8, cp1252, latin-1") from error
        # Python calls base64 and zip encodings, too; this is how it tells them from those of text.
        if found is not None and not (found._is_text_encoding and found.incrementaldecoder):
            raise ValueError(f"'{value}' is no encoding of text; known are, for instance, utf-8, cp1252, latin-1")
        return value


def check_names(names: tuple[ColumnName, ...] | None) -> tuple[ColumnName, ...] | None:
    """Return the names of a file without a header line; ValueError if there are none, or two are alike."""
    if names is None:
        return None
    if not names:
        raise ValueError("expected the names of all columns, in their order; found none")
    try:
        return tuple(distinguish_names(names, "the list"))
    except DataError as error:
        raise ValueError(str(error)) from error
