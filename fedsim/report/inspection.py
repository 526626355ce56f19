"""Looking at a run folder before anything in it is read or written: it may come from a stranger.

A run holds plain files and folders only. A symbolic link could lead to any file of the user, a pipe or a device never ends, and
a file without bounds fills the memory. What is none of ours beside a run (notes, or a folder somebody works in) is not entered.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from fedsim.errors import ContentError, OutputError
from fedsim.files import FOLDER_FLAGS, describe_kind

OURS = re.compile(r"model|claims|checkpoints|trials|seed-\d+|\.(next|aside|ready|moving|old)")
"""Folders in a run folder that commands enter."""
MOST_DEPTH, MOST_ENTRIES = 16, 2_000_000
"""Folders in folders; files and folders, with those of all runs of a sweep."""
MOST_BYTES = {".safetensors": 4 << 30, ".jsonl": 1 << 30}
"""Of a file, by how its name ends."""
MOST_BYTES_ELSE = 256 << 20


def inspect_folder(path: Path) -> None:
    """Look at everything in a run folder that a command could touch; nothing if there is no such folder.

    Raises:
        ContentError: there is a link, a device, a pipe or a socket; a file is too large; there is too much. Names it.
        OutputError: it cannot be looked at.
    """
    try:
        handle = os.open(path, FOLDER_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return  # whoever reads it says so
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        _inspect(handle, path, 0, [0])
    except OSError as error:
        raise OutputError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error
    finally:
        os.close(handle)


def _inspect(handle: int, path: Path, depth: int, seen: list[int]) -> None:
    with os.scandir(handle) as entries:
        for entry in entries:
            seen[0] += 1
            if seen[0] > MOST_ENTRIES or depth > MOST_DEPTH:
                raise ContentError(
                    f"{path}: holds more than a run does: {MOST_ENTRIES:,} files, {MOST_DEPTH} deep at most"
                )
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # whoever writes there has moved it meanwhile
                continue
            if stat.S_ISDIR(found.st_mode):
                if depth or OURS.fullmatch(entry.name):
                    _enter(handle, entry.name, path / entry.name, depth, seen)
            elif not stat.S_ISREG(found.st_mode):
                raise ContentError(
                    f"{path / entry.name}: {describe_kind(found.st_mode)}; a run folder holds plain files and folders only, "
                    "and nothing in this one was touched: remove it if you know where it leads"
                )
            elif depth or _is_read(entry.name):
                _check_size(path / entry.name, found.st_size)


def _enter(handle: int, name: str, path: Path, depth: int, seen: list[int]) -> None:
    try:
        inner = os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=handle)
    except FileNotFoundError:
        return
    try:
        _inspect(inner, path, depth + 1, seen)
    finally:
        os.close(inner)


def _is_read(name: str) -> bool:
    """Whether a command reads a file of this name at the top of a run folder."""
    return name.endswith((".json", ".jsonl", ".yaml"))


def _check_size(path: Path, size: int) -> None:
    most = MOST_BYTES.get(path.suffix, MOST_BYTES_ELSE)
    if size > most:
        raise ContentError(f"{path}: {size:,} bytes; a file of a run has at most {most:,}")
