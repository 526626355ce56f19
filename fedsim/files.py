"""Atomic file writes: the one place where files are created that others may be reading, or that must survive a crash."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

DRAFT_PREFIX = ".draft-"
"""How the names of files begin that are being written; a process that was killed may leave one behind."""


def atomic_write(path: Path, content: bytes, mode: int = 0o666, sync: bool = True) -> None:
    """Replace a file in one step: a reader at any moment, also after a loss of power, finds the old or the new content.

    Args:
        path: the file; its folder must exist. A symbolic link is replaced, not followed.
        content: everything that it will hold.
        mode: its permissions, less those that the umask takes away.
        sync: wait until it is on the disk. Of many files `sync_tree` afterwards does that faster.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    atomic_write_all({path: content}, mode, sync)


def atomic_write_all(contents: Mapping[Path, bytes], mode: int = 0o666, sync: bool = True) -> None:
    """Replace several files, none of them before all are on the disk; raises as `atomic_write`."""
    drafts: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            draft = path.with_name(DRAFT_PREFIX + os.urandom(8).hex())  # a name that nobody can foresee
            create_file(draft, content, mode, sync)
            drafts[path] = draft
        for path in contents:
            drafts[path].replace(path)
            del drafts[path]
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    for folder in {path.parent for path in contents} if sync else ():
        sync_folder(folder)


def create_file(path: Path, content: bytes, mode: int = 0o666, sync: bool = True) -> None:
    """Write a file that does not exist yet, and not through a link; all of it, or none.

    Args:
        path: the file; its folder must exist.
        content: everything that it will hold.
        mode: its permissions, less those that the umask takes away.
        sync: wait until it is on the disk.

    Raises:
        OSError: there is something of that name, or it cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def sync_tree(path: Path) -> None:
    """Wait until a file, or everything in a folder, is on the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            sync_tree(inner)
        sync_folder(path)
    elif path.is_file() and not path.is_symlink():
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed and removed in a folder survive a loss of power, where its file system can."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot, and the content is whole all the same
            os.fsync(handle)
    finally:
        os.close(handle)
