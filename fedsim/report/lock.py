"""A lock on a folder: one process at a time writes there. The system drops it when its process ends, however that ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import weakref
from pathlib import Path
from typing import Any

from fedsim.errors import OutputError
from fedsim.files import open_plain
from fedsim.report.manifest import now

LOCK = ".lock"
"""The file in the folder that is locked; it says who holds it, and is gone when nobody does."""
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems answer that have no locks; nobody is kept out there."""


class FolderLockedError(OutputError):
    """Another process, or another part of this one, writes to the folder."""


class FolderLock:
    """The right to write a folder, until `release` or the end of the process.

    Attributes:
        folder: which folder; whoever renames it while it is locked sets the new name here.
    """

    def __init__(self, folder: Path, handle: int) -> None:
        self.folder, self._handle = folder, handle
        self._close = weakref.finalize(self, os.close, handle)

    @staticmethod
    def acquire(folder: Path, activity: str, advice: str = "wait for its end, or end it") -> FolderLock:
        """Lock an existing folder.

        Args:
            folder: where nobody else may write from now on.
            activity: what the lock is for, to tell others: "writing a run".
            advice: what a user can do who meets the lock of somebody else.

        Raises:
            FolderLockedError: another process, or another part of this one, holds the lock; says which, and since when.
            OSError: the folder cannot be written.
        """
        while True:
            lock = FolderLock(folder, open_plain(folder / LOCK, os.O_RDWR | os.O_CREAT))
            try:
                fcntl.flock(lock._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _read_holder(lock._handle)
                lock._close()
                raise FolderLockedError(f"{folder}: {_name_holder(holder)}: {advice}") from None
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
            if lock._is_current():
                lock._write_holder(activity)
                return lock
            lock._close()  # the former holder has removed the file since it was opened: the next one counts

    def release(self) -> None:
        """Let others write; nothing if that was done before."""
        if self._close.alive:
            if self._is_current():
                (self.folder / LOCK).unlink(missing_ok=True)
            self._close()

    def _is_current(self) -> bool:
        try:
            there = os.stat(self.folder / LOCK, follow_symlinks=False)
        except OSError:
            return False
        mine = os.fstat(self._handle)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def _write_holder(self, activity: str) -> None:
        holder = {"pid": os.getpid(), "host": platform.node(), "since": now(), "activity": activity}
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, json.dumps(holder).encode(), 0)


def _read_holder(handle: int) -> dict[str, Any]:
    """What the holder of a lock wrote about itself; nothing if it has not yet."""
    try:
        found = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _name_holder(holder: dict[str, Any]) -> str:
    if not {"pid", "host", "since", "activity"} <= holder.keys():
        return "another process is writing there"
    return f"process {holder['pid']} is {holder['activity']} there (on {holder['host']}, since {holder['since']})"
