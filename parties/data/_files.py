"""Finding a data file, and turning whatever a damaged one raises into one clear line."""

from __future__ import annotations

import csv
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsim.dataset import suggest_fetch
from fedsim.errors import DataError

# What zip, gzip, numpy, pandas and pyarrow raise on bytes that are not what they should be.
UNREADABLE = (
    OSError, EOFError, MemoryError, ValueError, RuntimeError, SyntaxError, OverflowError, struct.error, zlib.error,
    lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, csv.Error,
)  # fmt: skip


def find_file(path: str, folder: str = "") -> Path:
    """Where a data file lies: relative paths start from ``folder``, then from the current folder, then from ``$FEDSIM_DATA``.

    Args:
        path: as the settings name it.
        folder: that of the scenario file; "" where there is none.

    Raises:
        DataError: it is in none of these places; the message lists them.
    """
    folders = [Path(folder), Path.cwd()] if folder else [Path.cwd()]
    if elsewhere := os.environ.get("FEDSIM_DATA"):
        folders.append(Path(elsewhere))
    try:
        places = list(dict.fromkeys(folder / Path(path).expanduser() for folder in folders))
        if found := next((place for place in places if place.is_file()), None):
            return found
        looked = ", ".join(f"{place} (a folder)" if place.is_dir() else str(place) for place in places)
    except (OSError, RuntimeError) as error:  # no permission, a name too long, the home of somebody who is not there
        raise DataError(f"data file '{path}' cannot be looked for: {_first_line(error)}") from error
    hint = "" if elsewhere else " ($FEDSIM_DATA is not set)"
    raise DataError(f"no data file '{path}'; looked at: {looked}{hint}{suggest_fetch(path)}")


@contextmanager
def reading(file: Path | str, form: str) -> Iterator[None]:
    """Within, whatever says that ``file`` is damaged becomes a DataError of one line."""
    try:
        yield
    except UNREADABLE as error:
        raise DataError(f"{file} cannot be read as {form}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
