"""Seats that die are started again, and an arm that is over is not played twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fedsim.config import ScenarioFile
from fedsim.errors import ContentError, OutputError, TransportError
from fedsim.files import make_folder, read_file
from fedsim.outcome import SeatReport, from_bytes, to_bytes
from fedsim.plan import Plan
from fedsim.safejson import parse
from fedsim.shelf import place
from fedsim.tensors import MOST_BYTES

T = TypeVar("T")
OVER = "over.json"


class Over(BaseModel):
    """That an arm is over: how many seats reported, and the seconds that it took."""

    seats: int
    seconds: float


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
        make_folder(folder)
        for i, report in enumerate(reports):
            place(folder / f"report-{i}.safetensors", to_bytes(report, plan))
        place(folder / OVER, json.dumps({"seats": len(reports), "seconds": seconds}).encode())
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def stored(folder: Path, file: ScenarioFile) -> tuple[list[SeatReport], float] | None:
    """What `store` put away; None if the arm is not over.

    Raises:
        ContentError: something else lies there.
    """
    try:
        over = Over.model_validate(parse(read_file(folder, OVER, MOST_BYTES)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ContentError(f"{folder / OVER}: not the end of an arm: {_first_line(error)}") from error
    plan = file.plan()
    if over.seats != len(plan.seats):
        raise ContentError(f"{folder / OVER}: {over.seats} reports; the arm has {len(plan.seats)} seats")
    return [_report(folder, f"report-{i}.safetensors", plan) for i in range(over.seats)], over.seconds


def _report(folder: Path, name: str, plan: Plan) -> SeatReport:
    try:
        return from_bytes(read_file(folder, name, MOST_BYTES), plan)
    except (OSError, ContentError) as error:
        raise ContentError(f"{folder / name}: not the report of a seat: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"])
    return str(error.strerror or error) if isinstance(error, OSError) else " ".join(str(error).split())[:200]
