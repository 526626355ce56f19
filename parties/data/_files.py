"""Finding a data file, and turning whatever a damaged one raises into one clear line."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsim.dataset import suggest_fetch
from fedsim.errors import DataError

# What zip, gzip, numpy, pandas and pyarrow raise on bytes that are not what they should be.
UNREADABLE = (
    OSError, EOFError, MemoryError, ValueError, RuntimeError, SyntaxError, struct.error, zlib.error, lzma.LZMAError,
    zipfile.BadZipFile,
)  # fmt: skip


def find_file(path: str) -> Path:
    """Where a data file lies: relative paths start from the current folder, then from ``$FEDSIM_DATA``.

    Raises:
        DataError: it is in none of these places; the message lists them.
    """
    folders = [Path.cwd()]
    if elsewhere := os.environ.get("FEDSIM_DATA"):
        folders.append(Path(elsewhere))
    places = list(dict.fromkeys(folder / Path(path).expanduser() for folder in folders))
    for place in places:
        if place.is_file():
            return place
    hint = "" if elsewhere else " ($FEDSIM_DATA is not set)"
    raise DataError(f"no data file '{path}'; looked at: {', '.join(map(str, places))}{hint}{suggest_fetch(path)}")


@contextmanager
def reading(file: Path, form: str) -> Iterator[None]:
    """Within, whatever says that ``file`` is damaged becomes a DataError of one line."""
    try:
        yield
    except UNREADABLE as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise DataError(f"{file} cannot be read as {form}: {reason}") from error
