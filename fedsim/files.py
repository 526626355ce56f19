"""Files that others may be reading, that must survive a crash, or that came from somebody else: the one place that opens them.

What is created did not exist before, and what is opened is a plain file or a folder: below a folder that the user has named no
symbolic link is followed, and no device or pipe is opened. Files and folders are for this user only, whatever the umask says,
unless a caller asks for `SHARED`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

DRAFT_PREFIX = ".draft-"
"""How the names of files begin that are being written; a process that was killed may leave one behind."""
PRIVATE, SHARED = 0o600, 0o666
"""Permissions of files: for this user only; for everybody whom the umask lets in."""
PRIVATE_FOLDER = 0o700
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Not through a link, and without waiting for whoever is at the other end of a pipe."""


def atomic_write(path: Path, content: bytes, mode: int = PRIVATE, sync: bool = True) -> None:
    """Replace a file in one step: a reader at any moment, also after a loss of power, finds the old or the new content.

    Args:
        path: the file; its folder must exist. A symbolic link is replaced, not followed.
        content: everything that it will hold.
        mode: its permissions: `PRIVATE`, or others less those that the umask takes away.
        sync: wait until it is on the disk. Of many files `sync_tree` afterwards does that faster.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    write_files(path.parent, {path.name: content}, mode, sync)


def write_files(root: Path, contents: Mapping[str, bytes], mode: int = PRIVATE, sync: bool = True) -> None:
    """Replace files below a folder, none of them before all are on the disk.

    Args:
        root: a folder that exists.
        contents: by the path below ``root``; folders are made as needed, and none of them is a link.
        mode, sync: as of `atomic_write`.

    Raises:
        OSError: as `atomic_write`.
    """
    with contextlib.ExitStack() as stack:
        folders = {
            folder: stack.enter_context(opened_folder(root, folder, make=True))
            for folder in dict.fromkeys(str(PurePath(name).parent) for name in contents)
        }
        drafts: list[tuple[int, str, str]] = []
        try:
            for name, content in contents.items():
                draft = DRAFT_PREFIX + os.urandom(8).hex()  # a name that nobody can foresee
                folder = folders[str(PurePath(name).parent)]
                _create(draft, content, mode, sync, folder)
                drafts.append((folder, draft, PurePath(name).name))
            while drafts:
                folder, draft, name = drafts[0]
                os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
                del drafts[0]
        finally:
            for folder, draft, _ in drafts:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=folder)
        for folder in folders.values() if sync else ():
            _sync(folder)


def create_file(path: Path, content: bytes, mode: int = PRIVATE, sync: bool = True) -> None:
    """Write a file that does not exist yet, and not through a link; all of it, or none.

    Args:
        path: the file; its folder must exist.
        content: everything that it will hold.
        mode, sync: as of `atomic_write`.

    Raises:
        OSError: there is something of that name, or it cannot be written.
    """
    _create(path, content, mode, sync)


def make_folder(path: Path) -> None:
    """Make a folder, and those around it that are missing, for this user only; one that is there keeps its permissions.

    Raises:
        OSError: it cannot be made, or is no folder.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_folder(path.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster; or it is a file, which the next line says
        _make(path)
    with opened_folder(path):
        pass


@contextlib.contextmanager
def opened_folder(root: Path, inner: str = ".", make: bool = False) -> Iterator[int]:
    """A descriptor of a folder below another, until the end of the context.

    Args:
        root: a folder that the user has named; it may be a link.
        inner: the path below it, in which nothing is a link.
        make: make what is missing, for this user only.

    Raises:
        OSError: one of them is missing, is a link or is no folder, or ``inner`` leads out of ``root``.
    """
    handle = os.open(root, FOLDER_FLAGS)
    try:
        for part in _parts(inner):
            if make:
                with contextlib.suppress(FileExistsError):
                    _make(part, handle)
            outer, handle = handle, os.open(part, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=handle)
            os.close(outer)
        yield handle
    finally:
        os.close(handle)


def read_file(root: Path, name: str, most: int) -> bytes:
    """What a plain file below a folder holds.

    Args:
        root: a folder that the user has named.
        name: the path below it, in which nothing is a link.
        most: bytes that it may have.

    Raises:
        OSError: it is missing, a link, no plain file, or too large, or ``name`` leads out of ``root``.
    """
    with (
        opened_folder(root, str(PurePath(name).parent)) as folder,
        open(open_plain(PurePath(name).name, os.O_RDONLY, folder), "rb") as file,
    ):
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes, more than {most:,}", str(root / name))
        content = file.read(most + 1)  # it may have grown meanwhile
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(root / name))
    return content


def open_plain(path: str | Path, flags: int, folder: int | None = None, mode: int = PRIVATE) -> int:
    """A descriptor of a plain file, for the caller to close; not through a link, and never of a device or a pipe.

    Args:
        path: the file, below ``folder`` if there is one.
        flags: of `os.open`. A file that is opened to be written must have no other name: under the name that somebody has
            given it, it may be a file of the user's.
        folder: a descriptor.
        mode: of a file that is created.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    handle = os.open(path, flags | FILE_FLAGS, mode, dir_fd=folder)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"{describe_kind(found.st_mode)}, not a plain file", str(path))
        if flags & (os.O_WRONLY | os.O_RDWR) and found.st_nlink > 1:
            raise OSError(errno.EMLINK, "a file with several names (hard links)", str(path))
        if flags & os.O_CREAT:
            _set_mode(handle, found, mode)
    except BaseException:
        os.close(handle)
        raise
    return handle


def describe_kind(mode: int) -> str:
    """What something in a folder is, by its ``st_mode``, in a few words."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def sync_tree(path: Path) -> None:
    """Wait until a file, or everything in a folder, is on the disk."""
    if path.is_symlink():
        return
    if path.is_dir():
        for inner in path.iterdir():
            sync_tree(inner)
        sync_folder(path)
    elif path.is_file():
        handle = open_plain(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed and removed in a folder survive a loss of power, where its file system can."""
    with opened_folder(folder) as handle:
        _sync(handle)


def _sync(handle: int) -> None:
    with contextlib.suppress(OSError):  # some network file systems cannot, and the content is whole all the same
        os.fsync(handle)


def _parts(inner: str) -> tuple[str, ...]:
    parts = PurePath(inner).parts
    if ".." in parts or PurePath(inner).is_absolute():
        raise OSError(errno.EINVAL, "leads out of the folder", inner)
    return parts


def _make(path: str | Path, folder: int | None = None) -> None:
    os.mkdir(path, PRIVATE_FOLDER, dir_fd=folder)
    made = os.stat(path, dir_fd=folder, follow_symlinks=False)
    if stat.S_IMODE(made.st_mode) & 0o777 != PRIVATE_FOLDER:  # the umask takes from the owner, too
        with contextlib.suppress(PermissionError):  # a file system that has no permissions of its own
            os.chmod(path, PRIVATE_FOLDER, dir_fd=folder)


def _set_mode(handle: int, found: os.stat_result, mode: int) -> None:
    """Give a file that is private its permissions where the umask, or whoever made it, has left it others."""
    if mode == PRIVATE != stat.S_IMODE(found.st_mode):
        with contextlib.suppress(
            PermissionError
        ):  # of somebody else, or a file system that has no permissions of its own
            os.fchmod(handle, mode)


def _create(path: str | Path, content: bytes, mode: int, sync: bool, folder: int | None = None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags, mode, dir_fd=folder)
    try:
        with open(handle, "wb") as file:
            _set_mode(file.fileno(), os.fstat(file.fileno()), mode)
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path, dir_fd=folder)
        raise
