"""Temporary folders that outlive their process: one that is killed cannot remove its own, so the next one does."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from fedsim.files import create_file, read_file
from fedsim.runtime import _environment

OWNER = ".owner"
"""The file in a temporary folder that says whose it is."""
MOST_BYTES = 500


def make_owned_folder(prefix: str, below_bytes: int) -> Path:
    """Make a temporary folder as `make_short_folder` does, and remove those that others have left which were killed.

    Raises:
        ConfigError: as `make_short_folder`.
    """
    folder = _environment.make_short_folder(prefix, below_bytes)
    create_file(
        folder / OWNER, " ".join((str(os.getpid()), *_name_system(), _find_start(os.getpid()))).encode(), sync=False
    )
    remove_leftovers(folder.parent, prefix)
    return folder


def remove_leftovers(place: Path, prefix: str) -> None:
    """Remove folders of this user and this system whose process is gone; others, and what cannot be removed, stay."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and _is_left(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_left(entry: os.DirEntry[str]) -> bool:
    try:
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        pid, *system, start = read_file(Path(entry.path), OWNER, MOST_BYTES).decode().split(" ")
        return tuple(system) == _name_system() and start != _find_start(int(pid))
    except (OSError, ValueError):  # not marked, or being made just now
        return False


def _name_system() -> tuple[str, str]:
    """Where the number of a process means something: the machine, and the set of processes that a container sees."""
    try:
        return os.uname().nodename, os.readlink("/proc/self/ns/pid")
    except OSError:
        return os.uname().nodename, "-"


def _find_start(pid: int) -> str:
    """When a process has started, in the words of the system; "-" if it is gone."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "-"
    return "-" if status[0] in (b"Z", b"X") else status[19].decode()
