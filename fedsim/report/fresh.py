"""A folder that did not exist appears with everything in it, or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fedsim.errors import OutputError
from fedsim.files import PRIVATE_FOLDER, describe_kind, make_folder, sync_folder
from fedsim.report.lock import LOCK, FolderLock
from fedsim.report.writing import remove


@contextlib.contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder, for nobody else to see, that gets the name ``path`` when the context is left without an error.

    It lies beside ``path``, as ``.NAME.draft``; what a process that was killed has left there is removed.

    Raises:
        OutputError: there is something at ``path`` already, it cannot be written, or another process is making it.
    """
    place = path.absolute()
    draft = place.with_name(f".{place.name[:200]}.draft")
    try:
        _refuse_existing(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        make_folder(draft)
        _refuse_others(draft)
        lock = FolderLock.acquire(draft, f"making {path}")
        try:
            for left in draft.iterdir():
                if left.name != LOCK:
                    remove(left)
            yield draft
            _refuse_existing(path)
            draft.rename(path)
            lock.folder = path
            sync_folder(place.parent)
        except BaseException:
            remove(draft)
            raise
        finally:
            lock.release()
    except OSError as error:
        named = str(error.filename or path).replace(str(draft), str(path))
        raise OutputError(f"{named}: cannot be written: {error.strerror or error}") from error


def _refuse_others(draft: Path) -> None:
    """The name of a draft can be foretold: what lies there may be somebody else's, in a folder that others write to as well."""
    found = draft.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        what = describe_kind(found.st_mode) if not stat.S_ISDIR(found.st_mode) else "a folder of another user"
        raise OutputError(f"{draft}: {what}; choose another place with --out, or remove it")
    draft.chmod(PRIVATE_FOLDER)


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise FileExistsError(17, "File exists", str(path))
