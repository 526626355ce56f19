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
from fedsim.residency import SharingConsent, read_consent, release_report
from fedsim.runtime._child import REPORT, Voice
from fedsim.runtime._own_folder import OwnFolder, own_folder
from fedsim.runtime._seat import Belongings

BOOT = Path("/proc/sys/kernel/random/boot_id")


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


class _Deployed:
    """The seat has an operator of its own: everything goes into its own run folder."""

    def __init__(self, folder: OwnFolder, file: ScenarioFile, consent: SharingConsent) -> None:
        self._folder, self._file, self._consent = folder, file, consent

    def watch(self, role: RoleId, row: Mapping[str, Any]) -> None:
        self._folder.watch(role, row)
        if "notice" in row:
            write_log(str(row["notice"]))

    def release(self, report: SeatReport) -> SeatReport:
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
    elif is_simulation(settings) and operator == identify_operator():
        yield _Simulated()
    else:
        consent = read_consent(settings)
        with own_folder(Belongings.named(settings).runs, file, role, write_log) as folder:
            yield _Deployed(folder, file, consent)


def is_simulation(settings: Mapping[str, Any]) -> bool:
    """Whether these are the settings that Flower's simulation gives its nodes; those of an operator name a party."""
    return "partition-id" in settings and "party" not in settings


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
