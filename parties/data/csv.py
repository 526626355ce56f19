"""Comma-separated text, plain or compressed (.gz, .bz2, .xz, .zip)."""

from __future__ import annotations

from pydantic import Field

from fedsim.parties.data._raw import ReadOptions
from fedsim.parties.data._table import TableFile


class Csv(TableFile):
    """A csv file with a header line, plain or compressed; empty cells are missing."""

    separator: str = Field(",", min_length=1, max_length=1, description="the sign between two cells")

    def options(self) -> ReadOptions:
        """See `TableFile.options`."""
        return ReadOptions(separator=self.separator)
