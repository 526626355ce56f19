"""Write a page in one step; where it goes into a run folder, nobody else writes there from the first moment to the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fedsim.errors import OutputError, restore_text
from fedsim.report.lock import FolderLock
from fedsim.report.writing import write_named

ADVICE = "wait for its end, or name another file: --out FILE"


def write_page(page: Path, render: Callable[[], str], folders: Sequence[Path]) -> Path:
    """Render a page and write it; returns where it lies.

    Args:
        page: the file.
        render: makes the page as HTML.
        folders: the run folders that it shows. One that the page goes into is locked meanwhile.

    Raises:
        OutputError: another process writes to that folder, the runs cannot be shown, or the page cannot be written.
    """
    lock = None
    try:
        for folder in folders:
            if lock is None and folder.is_dir() and page.parent.resolve() == folder.resolve():
                lock = FolderLock.acquire(folder, "writing a page", ADVICE)
        html = render()
        page.parent.mkdir(parents=True, exist_ok=True)
        write_named(page, restore_text(html).encode(), folders)
    except OSError as error:
        raise OutputError(f"{page}: cannot be written: {error.strerror or error}") from error
    finally:
        if lock is not None:
            lock.release()
    return page
