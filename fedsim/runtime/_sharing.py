"""One seat of another operator's run: its own run folder, and how much of its report leaves for the hub."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from fedsim.config import ScenarioFile
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport, to_bytes
from fedsim.report.record import slugs
from fedsim.residency import SharingConsent, read_consent, release_report, release_row
from fedsim.runtime._child import REPORT, Voice
from fedsim.runtime._own_folder import RUNS, OwnFolder, own_folder

BOOT = Path("/proc/sys/kernel/random/boot_id")
SHARING_VARIABLE = "FEDSIM_SHARING"
"""The environment variable that names a machine's file of what its seats share, where an engine starts them there."""


class Sharing(Protocol):
    """What becomes of what a seat leaves behind."""

    @property
    def watch(self) -> Watch:
        """To be shown what the role logs."""

    def release(self, report: SeatReport) -> SeatReport:
        """Keep what the seat's own operator keeps; returns what the hub gets."""


class _Simulated:
    """One operator has the seat and the hub, in Flower's simulation: the hub's process gathers everything."""

    def __init__(self) -> None:
        self.watch: Watch = lambda role, row: None

    def release(self, report: SeatReport) -> SeatReport:
        return report


class _Launched:
    """One operator has started all seats on this machine: everything goes to that process, and past the hub's."""

    def __init__(self, voice: Voice, file: ScenarioFile) -> None:
        self.watch: Watch = voice.watch
        self._voice, self._file = voice, file

    def release(self, report: SeatReport) -> SeatReport:
        self._voice.say(REPORT, to_bytes(report, self._file.plan()))
        return release_report(report, self._file, SharingConsent())


class OwnSharing:
    """The seat has an operator of its own: everything goes into its own run folder, and words for people into its log."""

    def __init__(
        self, folder: OwnFolder, file: ScenarioFile, consent: SharingConsent, watch: Watch = lambda role, row: None
    ) -> None:
        self._folder, self._file, self._consent, self._watch = folder, file, consent, watch

    def watch(self, role: RoleId, row: Mapping[str, Any]) -> None:
        """Keep a row, and show what may leave of it to whoever watches the run."""
        self._folder.watch(role, row)
        if "notice" in row:
            write_log(str(row["notice"]))
        if (released := release_row(row, self._file)) is not None:
            self._watch(role, released)

    def release(self, report: SeatReport) -> SeatReport:
        """See `Sharing.release`."""
        self._folder.write(report)
        return release_report(report, self._file, self._consent)


@contextlib.contextmanager
def sharing(
    file: ScenarioFile, role: RoleId, settings: Mapping[str, Any], voice: Voice | None, operator: str
) -> Iterator[Sharing]:
    """Say who gets what a seat leaves behind, while it plays.

    Args:
        file: what is played, as the hub has it.
        role: the seat.
        settings: the seat's own.
        voice: the way to the process that has started all seats on this machine, if one did.
        operator: the hub's, as `identify_operator` names it.

    Raises:
        ConfigError: the seat's settings cannot be used.
        OutputError: the folder for its runs cannot be used.
    """
    if voice is not None:
        yield _Launched(voice, file)
    elif is_simulated(settings) and operator == identify_operator():
        yield _Simulated()
    else:
        consent = read_consent(settings)
        with own_folder(consent.runs, file, role, write_log) as folder:
            yield OwnSharing(folder, file, consent)


def is_simulated(node: Mapping[str, Any]) -> bool:
    """Whether a node is one of Flower's simulation, which runs in Ray's processes and numbers its nodes.

    A SuperNode may be numbered, too. That the hub says it is a simulation counts for nothing: it is the hub that would profit.
    """
    ray = sys.modules.get("ray")
    return "party" not in node and "partition-id" in node and ray is not None and bool(ray.is_initialized())


def identify_operator() -> str:
    """Name this machine, as this process sees it, and the user: who has the same name can read the same files."""
    try:
        boot = BOOT.read_text().strip()
    except OSError:
        boot = ""
    root = os.stat("/")
    return f"{boot} {platform.node()} {root.st_dev}:{root.st_ino} {os.getuid()}"


def write_log(line: str) -> None:
    """Write a line to the log of the seat's own process."""
    print(line, file=sys.stderr, flush=True)


def read_own_settings() -> dict[str, Any]:
    """The settings of a seat that an engine has started on this machine: those that this machine's operator gives it."""
    path = os.environ.get(SHARING_VARIABLE, "")
    return {"sharing": path} if path else {}


def redirect_output(settings: Mapping[str, Any], role: RoleId) -> None:
    """Send all that this process prints from now on to a log of the seat's own: an engine hands its output around.

    Raises:
        ConfigError: the settings cannot be used.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(null, number)
    os.close(null)
    folder = Path(read_consent(settings).runs or RUNS)
    with contextlib.suppress(OSError):  # it prints nowhere, then
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        log = os.open(folder / f"{slugs([role])[role]}.log", flags, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        os.close(log)
