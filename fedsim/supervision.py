"""Seats that die are started again, and an arm that is over is not played twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fedsim.config import ScenarioFile
from fedsim.errors import OutputError, TransportError
from fedsim.outcome import SeatReport, from_bytes, to_bytes
from fedsim.shelf import place

T = TypeVar("T")
OVER = "over.json"


def supervised(play: Callable[[], T], restarts: int, notice: Callable[[str], None]) -> T:
    """What ``play`` returns. When a seat is lost it is called again, at most ``restarts`` times.

    All seats are started anew then, and go on from the last checkpoint that all of them have.

    Raises:
        FedsimError: what ended it for good.
    """
    for nth in range(1, restarts + 1):
        try:
            return play()
        except TransportError as error:
            notice(f"{error}; all seats are started again ({nth} of at most {restarts} times)")
    return play()


def keeping(file: ScenarioFile, folder: Path) -> ScenarioFile:
    """The file, with ``folder`` as the place for parts of checkpoints if it takes any."""
    if file.checkpoint is None:
        return file
    placed = file.checkpoint.model_copy(update={"folder": str(folder.absolute())})
    return file.model_copy(update={"checkpoint": placed})


def store(folder: Path, file: ScenarioFile, reports: list[SeatReport], seconds: float) -> None:
    """Put away what the seats of an arm reported, so that a run that is taken up does not play it again.

    Raises:
        OutputError: it cannot be written.
    """
    plan = file.plan()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for i, report in enumerate(reports):
            place(folder / f"report-{i}.safetensors", to_bytes(report, plan))
        place(folder / OVER, json.dumps({"seats": len(reports), "seconds": seconds}).encode())
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def stored(folder: Path, file: ScenarioFile) -> tuple[list[SeatReport], float] | None:
    """What `store` put away; None if the arm is not over."""
    if not (folder / OVER).exists():
        return None
    over, plan = json.loads((folder / OVER).read_text()), file.plan()
    blocks = [(folder / f"report-{i}.safetensors").read_bytes() for i in range(over["seats"])]
    return [from_bytes(block, plan) for block in blocks], over["seconds"]
