"""The run folder of one seat: what the seat owns, at its operator's own place, with a page for its operator."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jinja2 import TemplateNotFound

from fedsim.config import ScenarioFile
from fedsim.errors import OutputError
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.report import seat_page
from fedsim.report.folder import RunFolder, default_path
from fedsim.report.lock import FolderLockedError
from fedsim.report.record import slugs
from fedsim.report.summary import Arm

BUSY_TIMEOUT_S = 60.0
"""How long a seat that is started again waits for its earlier process, which notices later that its run is lost."""
BUSY_TICK_S = 0.2
RUNS = "runs"
"""Where run folders go unless the settings of a seat say otherwise: below the current folder."""


class OwnFolder:
    """The run folder of one seat while it plays.

    Attributes:
        watch: to be shown what the role logs, which goes into the folder.
    """

    def __init__(
        self, folder: RunFolder | None, file: ScenarioFile, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self._folder, self._file, self._began, self._log = folder, file, time.perf_counter(), log
        self.watch: Watch = folder.watch(file.name) if folder else lambda role, row: None

    def write(self, report: SeatReport) -> None:
        """Write everything that the seat reports, and the page of its operator.

        Raises:
            OutputError: it cannot be written.
        """
        if self._folder is None:
            return
        self._folder.write([Arm(self._file.name, self._file, [report], time.perf_counter() - self._began)])
        ended = self._folder.conclude()
        try:
            self._folder.write_page(seat_page.render(ended))
        except TemplateNotFound:  # an app that Flower has brought consists of code: the templates stay behind
            self._log(f"{report.role}: no page yet: fedsim report --own {self._folder.home} makes it")


def _open_folder(path: Path, file: ScenarioFile, command: Sequence[str]) -> RunFolder:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return RunFolder.open_for(path, file, command, going_on=True)
        except FolderLockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(BUSY_TICK_S)


def name_folder(file: ScenarioFile, role: RoleId) -> str:
    """Name the run folder of a seat: ``<name>-<digest8>-<role>``."""
    return f"{default_path(file).name}-{slugs([role])[role]}"


@contextlib.contextmanager
def own_folder(
    runs: str, file: ScenarioFile, role: RoleId, log: Callable[[str], None], command: Sequence[str] = ()
) -> Iterator[OwnFolder]:
    """Keep what a seat owns, while it plays and when it has played; an error that ends it is written there too.

    Args:
        runs: the folder in which the seat's run folder is made; empty: ``runs`` in the current folder, and if that cannot
            be written the seat plays without a folder, and its log says so.
        file: what is played.
        role: the seat.
        log: told a line for the seat's operator.
        command: the command line, for the manifest.

    Raises:
        OutputError: the folder that ``runs`` names cannot be written, or holds another run.
    """
    path = Path(runs or RUNS) / name_folder(file, role)
    try:
        folder = _open_folder(path, file, command)
    except OutputError as error:
        if runs:
            raise
        log(
            f"{role} keeps nothing of this run, neither its trained model nor its page: {error}; name a folder: runs='DIR'"
        )
        yield OwnFolder(None, file)
        return
    with folder:
        yield OwnFolder(folder, file, log)
    log(f"{role}: run folder: {folder.path}")
