"""A seat's own parts of checkpoints, where the seat lives: each is one file that is whole or not there.

A part is a safetensors file: the tensors of a state (`fedsim.state`), and JSON as its metadata, which has the state's structure
and what it belongs to; its name has its SHA-256. Rows that a role has logged only grow, so they lie in a file of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError
from safetensors.torch import save

from fedsim.errors import ContentError, OutputError
from fedsim.files import make_folder, open_plain, opened_folder, read_file, write_files
from fedsim.plugins import Settings
from fedsim.rows import Row
from fedsim.safejson import parse
from fedsim.state import Packed
from fedsim.tensors import MOST_BYTES, decode, decode_metadata

SCHEMA = 1
LOG = "rows.jsonl"
NAME = re.compile(r"step-(\d{10})-([0-9a-f]{64})\.safetensors")


class Checkpoint(Settings):
    """How often a run can be taken up again; not part of the experiment."""

    every: int = Field(
        ge=1, description="training steps from one checkpoint to the next; there is one after the last, too"
    )
    keep: int = Field(
        3,
        ge=3,
        description="how many each seat keeps: seats write behind their training, so the newest may not be whole",
    )
    restarts: int = Field(3, ge=0, description="how often seats are started again after one has died")
    folder: str = Field("", description="where seats keep their parts: set by whoever starts them, in the run folder")


class About(BaseModel):
    """What a part says of itself: what it belongs to, and the structure of its state."""

    form: int = Field(alias="schema")
    experiment: str
    role: str
    done: NonNegativeInt
    step: NonNegativeInt
    mark: str
    rows: tuple[NonNegativeInt, NonNegativeInt, str]
    state: str


@dataclass(frozen=True)
class Part:
    """One seat's part of a checkpoint.

    Attributes:
        done: training steps that are done.
        step: with which step the schedule goes on.
        mark: of the run it belongs to: seats go on from parts of one mark only.
        state: what the seat was.
        rows: how many rows its role had logged, and where the log ended; bytes.
    """

    done: int
    step: int
    mark: str
    state: Packed
    rows: tuple[int, int]


class Shelf:
    """The parts of one seat. They are written by a thread: training goes on meanwhile, and waits if the next is due before.

    Attributes:
        broken: what was found at the start and is not whole, one line each.
    """

    def __init__(self, folder: Path, role: str, experiment: str, keep: int) -> None:
        """Look at what is there.

        Args:
            folder: of all seats on this machine; this one has a folder in it.
            role: the seat.
            experiment: what a part must belong to, such as a digest of the file and of the data.
            keep: how many parts are kept.
        """
        self.folder, self._role, self._experiment, self._keep = (
            folder / f"seat-{quote(role, safe='')}",
            role,
            experiment,
            keep,
        )
        self.broken: list[str] = []
        self._log = hashlib.sha256()
        self._size = self._count = 0
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def whole(self) -> dict[int, Part]:
        """The parts that are whole and belong to this experiment, by the training steps that are done."""
        found = {}
        self.broken.clear()
        for path in sorted(self.folder.glob("step-*.safetensors")):
            try:
                part = self._read(path)
            except (OSError, ValueError) as error:
                self.broken.append(f"{path}: not whole: {' '.join(str(error).split())[:200]}")
                continue
            if part is not None:
                found[part.done] = part
        return found

    def begin(self, part: Part | None) -> list[Row]:
        """Go on from a part, or (None) anew: whatever is later goes; the rows that were logged until then.

        Raises:
            OutputError: the folder cannot be written.
        """
        with self._told(0 if part is None else part.done):
            make_folder(self.folder.parent)
            with opened_folder(self.folder.parent, self.folder.name, make=True) as folder:
                for name in os.listdir(folder):
                    if name.startswith(".") or _named(name)[0] > (part.done if part else 0):
                        os.unlink(name, dir_fd=folder)
            log = self._logged()[: part.rows[1] if part else 0]
            place(self.folder / LOG, log)
        self._log, self._size = hashlib.sha256(log), len(log)
        rows = _read_rows(log)
        self._count = len(rows)
        return rows

    def put(self, done: int, step: int, mark: str, state: Packed, rows: Sequence[Row]) -> None:
        """Keep a part; ``rows`` are all that were logged. Returns before it is written, and after the one before was.

        Raises:
            OutputError: the part before could not be written; those before it are whole.
        """
        self.settle()
        self._pending = self._pool.submit(self._write, done, step, mark, state, rows[self._count :])

    def settle(self) -> None:
        """Wait until all that was put is written; raises as `put` does."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Write what was put and end the thread; whether it could be written matters to nobody any more."""
        self._pool.shutdown()

    def _write(self, done: int, step: int, mark: str, state: Packed, rows: Sequence[Row]) -> None:
        with self._told(done):
            self._append(rows)
            about = {
                "schema": SCHEMA,
                "experiment": self._experiment,
                "role": self._role,
                "done": done,
                "step": step,
                "mark": mark,
                "rows": [self._count, self._size, self._log.hexdigest()],
                "state": state[0],
            }
            tensors = {name: tensor.contiguous().clone() for name, tensor in state[1].items()}  # views cannot be stored
            block = save(tensors, {"part": json.dumps(about)})
            place(self.folder / f"step-{done:010d}-{hashlib.sha256(block).hexdigest()}.safetensors", block)
            kept = sorted(self.folder.glob("step-*.safetensors"))
            for path in kept[: -self._keep]:
                path.unlink()

    def _append(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        block = "".join(json.dumps(row) + "\n" for row in rows).encode()
        with (
            opened_folder(self.folder.parent, self.folder.name) as folder,
            open(open_plain(LOG, os.O_RDWR, folder), "r+b") as log,
        ):  # what a failed attempt has left behind is written over
            log.seek(self._size)
            log.write(block)
            log.truncate()
            log.flush()
            os.fsync(log.fileno())
        self._log.update(block)
        self._size, self._count = self._size + len(block), self._count + len(rows)

    def _read(self, path: Path) -> Part | None:
        """A part; None if it is of another experiment or of no seat of ours."""
        content = read_file(self.folder.parent, f"{self.folder.name}/{path.name}", MOST_BYTES)
        if _named(path.name)[1] != hashlib.sha256(content).hexdigest():
            raise ValueError("its digest is another")
        try:
            about = About.model_validate(parse(decode_metadata(content).get("part", "")))
        except ValidationError as error:
            raise ValueError(f"what it belongs to is not said: {error.errors()[0]['msg']}") from error
        if (about.form, about.role, about.experiment) != (SCHEMA, self._role, self._experiment):
            return None
        count, size, log = about.rows
        logged = self._logged()[:size]
        if hashlib.sha256(logged).hexdigest() != log or logged.count(b"\n") != count:
            raise ValueError(f"the rows in {LOG} are others")
        return Part(about.done, about.step, about.mark, (about.state, decode(content)), (count, size))

    def _logged(self) -> bytes:
        try:
            return read_file(self.folder.parent, f"{self.folder.name}/{LOG}", MOST_BYTES)
        except FileNotFoundError:
            return b""

    @contextlib.contextmanager
    def _told(self, done: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"{error.strerror or error} ({self.folder})"
            raise OutputError(
                f"{self._role} cannot keep its part of the checkpoint after training step {done}: {why}; the one before is"
                " whole: make room there, then fedsim resume"
            ) from error


def place(path: Path, block: bytes) -> None:
    """Write a file of a seat's own so that at any moment, also after a loss of power, there is the old one or the new one."""
    write_files(path.parent.parent, {f"{path.parent.name}/{path.name}": block})  # a seat's folder is no link


def _read_rows(log: bytes) -> list[Row]:
    """The rows of a log; numbers in it may be infinite, or none.

    Raises:
        ContentError: it is none of ours.
    """
    try:
        rows = [json.loads(line) for line in log.splitlines()]
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{LOG} of a checkpoint: not rows of JSON: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise ContentError(f"{LOG} of a checkpoint: not rows of JSON")
    return rows


def _named(name: str) -> tuple[int, str]:
    """The training steps that are done and the digest, by the name of a part; (0, "") for another file."""
    found = NAME.fullmatch(name)
    return (int(found[1]), found[2]) if found else (0, "")
