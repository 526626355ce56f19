"""How a run replaces an earlier one in the same folder: it is written beside its results, and takes their place when complete.

A run folder holds results, or an unfinished run; results stay where they are until those that replace them are complete:

* ``.next``: a newer run that is not complete yet, a whole run folder in itself;
* ``.aside``: an unfinished run with checkpoints that was in ``.next`` when a newer one began;
* ``.ready``, then ``.moving``: a complete run on its way to its place. Whoever finds one after a crash goes on with that;
* ``.old``: what has been replaced, on its way out.

The folder itself is never renamed: it may be a mount point, or the folder somebody works in, and may hold files of others.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fedsim.errors import OutputError
from fedsim.files import DRAFT_PREFIX, make_folder, read_file, sync_folder
from fedsim.report.lock import LOCK, FolderLock
from fedsim.report.writing import remove, reporting_failures

CHECKPOINTS = "checkpoints"
"""The folder in a run folder with what a run can be taken up from; gone when the run is complete."""
CARD = ("card.md", "card.html", "card.json")
WRITTEN = (
    "scenario.yaml",
    "metrics.jsonl",
    "summary.json",
    "seats.json",
    "report.html",
    "model",
    "claims",
    CHECKPOINTS,
    *CARD,
)
"""What a run leaves beside ``manifest.json``: removed when the same experiment is written again."""
AT_FIRST = {"manifest.json", "scenario.yaml"}
"""What a run has before its first row."""
NEXT, ASIDE, READY, MOVING, OLD = ".next", ".aside", ".ready", ".moving", ".old"
MOST_MANIFEST_BYTES = 16 << 20
RECOVERY_TIMEOUT_S = 30.0
"""For how long a reader waits while another process puts a complete run in its place, which takes milliseconds."""


def public_folder(path: Path) -> Path:
    """The run folder that a user means: that around ``.next``, if the latter is named."""
    return path.parent if path.name in (NEXT, ASIDE) else path


def entries(folder: Path) -> set[str]:
    """The names in a folder, less those that are of passing interest: locks, drafts, runs that are to replace others."""
    passing = {LOCK, NEXT, ASIDE, READY, MOVING, OLD}
    return {
        path.name for path in folder.iterdir() if path.name not in passing and not path.name.startswith(DRAFT_PREFIX)
    }


def holds_results(folder: Path) -> bool:
    """Whether a run came as far as its results, though perhaps without every variant."""
    return (folder / "summary.json").is_file()


def holds_checkpoints(folder: Path) -> bool:
    """Whether a run can go on from somewhere: a checkpoint of a seat, or a variant that was over."""
    found = (folder / CHECKPOINTS).glob("**/*")
    return any(path.name == "over.json" or path.name.startswith("step-") for path in found)


def read_status(folder: Path) -> str:
    """The status in a manifest; empty if there is no manifest."""
    try:
        return str(json.loads(read_file(folder, "manifest.json", MOST_MANIFEST_BYTES))["status"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def find_unfinished(folder: Path) -> Path | None:
    """The run under this name that can go on: the newest, unless only an older one has checkpoints; None without any."""
    places = [folder / NEXT, folder / ASIDE, folder]
    begun = [place for place in places if read_status(place) not in ("", "complete")]
    return next((place for place in begun if holds_checkpoints(place)), begun[0] if begun else None)


def choose_place(folder: Path, begun: dict[str, Any], going_on: bool, replace: bool) -> Path:
    """Where in its folder a new run is to be written, and make room for it there; under the folder's lock.

    Args:
        folder: the run folder.
        begun: the manifest of the new run.
        going_on: the new run goes on from checkpoints that it finds, as a seat does that is started again.
        replace: whatever there is of an earlier run goes at once.
    """
    if replace:
        discard_attempts(folder)
        return folder
    busy = read_status(folder) == "complete" if going_on else holds_results(folder) or holds_checkpoints(folder)
    if not busy:
        return folder
    place = folder / NEXT
    if going_on or begun["seeds"]:  # it goes on with what is there, or each seed's folder looks after itself
        return place
    if holds_checkpoints(place):
        remove(folder / ASIDE)
        place.rename(folder / ASIDE)
    remove(place)
    return place


def replace_results(folder: Path) -> None:
    """Put the complete run in ``.next`` in the place of what its folder holds; under the folder's lock."""
    remove(folder / NEXT / CHECKPOINTS)
    sync_folder(folder / NEXT)
    (folder / NEXT).rename(folder / READY)
    finish_replacement(folder)
    remove(folder / ASIDE)


def finish_replacement(folder: Path) -> None:
    """Do what is left to do of `replace_results`, from wherever a crash has left it; under the folder's lock."""
    ready, moving, old = (folder / name for name in (READY, MOVING, OLD))
    if ready.is_dir():
        fresh = {path.name for path in ready.iterdir()}
        for name in WRITTEN:
            if name not in fresh:
                _move_out(folder / name, old)
        ready.rename(moving)
    if moving.is_dir():
        for path in sorted(moving.iterdir(), key=lambda path: path.name == "manifest.json"):
            if path.name.startswith("."):
                remove(path)
                continue
            if path.is_dir() or (folder / path.name).is_dir():  # a folder is not replaced in one step
                _move_out(folder / path.name, old)
            path.replace(folder / path.name)
        moving.rmdir()
        sync_folder(folder)
    remove(old)


def recover(folder: Path) -> None:
    """Finish what a process has begun that was killed; under the folder's lock."""
    finish_replacement(folder)
    if read_status(folder / NEXT) == "complete":
        replace_results(folder)
    for path in folder.glob(f"{DRAFT_PREFIX}*"):
        remove(path)


def discard_attempts(folder: Path) -> None:
    """Remove unfinished runs beside the one in its place; under the folder's lock."""
    for name in (NEXT, ASIDE):
        remove(folder / name)


def await_replacement(folder: Path) -> None:
    """Before a folder is read: finish a replacement that a crash has left half done, or wait for the process that does.

    Raises:
        OutputError: it cannot be finished: not with this user's rights, or another process does not come to its end.
    """
    until = time.monotonic() + RECOVERY_TIMEOUT_S
    while (folder / READY).exists() or (folder / MOVING).exists():
        with reporting_failures(folder):
            try:
                lock = FolderLock.acquire(folder, "putting a complete run in its place")
            except OutputError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
                continue
            try:
                finish_replacement(folder)
            finally:
                lock.release()


def _move_out(path: Path, old: Path) -> None:
    if path.exists() or path.is_symlink():
        make_folder(old)
        remove(old / path.name)
        path.rename(old / path.name)
