"""Writing a run folder: refused if it is not ours to write, marked at once, every file whole or not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from torch import Tensor

from fedsim import tensors
from fedsim.config import ScenarioFile
from fedsim.errors import OutputError
from fedsim.files import make_folder, open_plain, read_file, sync_tree, write_files
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import MODEL, SCHEMA
from fedsim.report import manifest, replacing, schema
from fedsim.report.inspection import inspect_folder
from fedsim.report.lock import FolderLock
from fedsim.report.reading import MOST_JSON_BYTES, Run, read, read_manifest, read_numbers
from fedsim.report.record import claim_file, exhibits, is_part, record, shown_file, slugs
from fedsim.report.replacing import AT_FIRST, CHECKPOINTS, NEXT, WRITTEN
from fedsim.report.seeds import over_seeds
from fedsim.report.summary import Arm, own, rows, summarise
from fedsim.report.writing import (
    json_line,
    remove,
    reporting_failures,
    scenario_text,
    write_json,
    write_text,
)
from fedsim.safejson import parse

ACTIVITY = "writing a run"
CLOCK_TOLERANCE_S = 2.0
"""How much later than a run a process may seem to have started that writes it: both times are rounded."""
ELSEWHERE = "wait for its end, end it, or choose another folder with --out"


class RunFolder:
    """A run folder that is being written; leaving it as a context settles its status.

    Results that lie there stay until the new run is complete; until then it is written to a folder inside
    (`fedsim.report.replacing`). Nobody else writes there until the context is left.

    >>> import tempfile
    >>> from fedsim.config import read
    >>> with RunFolder.open_for(Path(tempfile.mkdtemp()), read("baseline")) as run:
    ...     run.status
    'running'
    >>> run.status
    'complete'

    Attributes:
        home: the folder that the user has named.
        path: where the run is written: ``home``, or a folder inside until it takes the place of earlier results.
    """

    def __init__(self, home: Path, path: Path, file: ScenarioFile, begun: Mapping[str, Any], lock: FolderLock) -> None:
        self.home, self.path, self._file, self._manifest = home, path, file, dict(begun)
        self._lock = lock
        self._log: TextIO | None = None

    @staticmethod
    def open_for(
        path: Path,
        file: ScenarioFile,
        command: Sequence[str] = (),
        seeds: Sequence[int] = (),
        sweep: bool = False,
        going_on: bool = False,
        replace: bool = False,
    ) -> RunFolder:
        """Make the folder, lock it, and mark the run as running.

        Args:
            path: may be missing, empty, or hold an earlier run of the same experiment, which is replaced, at once if it
                has nothing to lose, else when the new one is complete; so is any run that ended before its first result.
            file: what is about to be played.
            command: the command line, for the manifest.
            seeds: for a folder over the runs of several seeds.
            sweep: for a folder over the runs of the file's sweep, which are left where they are.
            going_on: checkpoints are left where they are.
            replace: remove at once what there is of an earlier run.

        Raises:
            OutputError: there is a file, another run, or something that is not a run; it cannot be written; or another
                process writes there.
        """
        begun = manifest.begin(file, command, seeds, sweep)
        with reporting_failures(path):
            _refuse_foreign(path, begun)  # before anything is made
            inspect_folder(path)
            make_folder(path)
            with _locked(path, ELSEWHERE) as lock:
                _refuse_foreign(path, begun, locked=True)
                place = replacing.choose_place(path, begun, going_on, replace)
                make_folder(place)
                # first: an interrupted clean-up still leaves a run of ours
                write_json(place, "manifest.json", begun, sync=False)
                for name in WRITTEN:
                    if not (going_on and name == CHECKPOINTS):
                        remove(place / name)
                write_text(place, "scenario.yaml", scenario_text(file), sync=False)
        return RunFolder(path, place, file, begun, lock)

    @staticmethod
    def reopen(path: Path, file: ScenarioFile) -> RunFolder:
        """Go on with a run that has not come to its end.

        Args:
            path: its folder.
            file: its scenario, as it lies there; perhaps under another runtime.

        Raises:
            OutputError: it is complete, still runs, takes no checkpoints, or is not what it was.
        """
        path = replacing.public_folder(path)
        inspect_folder(path)
        with reporting_failures(path), _locked(path) as lock:
            place = replacing.find_unfinished(path) or path
            there = read_manifest(place, schema.WrittenManifest)
            if why := _lasts(there, file):
                raise OutputError(f"{path}: cannot be resumed: {why}")
            if place.name == replacing.ASIDE:
                remove(path / NEXT)
                place = place.rename(path / NEXT)
            begun = manifest.again(there)
            write_json(place, "manifest.json", begun)
        return RunFolder(path, place, file, begun, lock)

    @property
    def status(self) -> str:
        """``running``, ``complete``, ``interrupted`` or ``failed``."""
        return str(self._manifest["status"])

    def conclude(self, status: manifest.Status = "complete", cause: str | None = None) -> Run:
        """Settle how the run has ended, with a cause of one line if it went wrong, and return it for its page.

        The folder says so when it is left as a context: what is written until then belongs to the run.
        """
        self._manifest = manifest.end(self._manifest, status, cause)
        return Run(self.path, self._manifest, json.loads(read_file(self.path, "summary.json", MOST_JSON_BYTES)))

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close_log()
            if error is None:
                with reporting_failures(self.home):
                    self._settle()
                return
            stopped = isinstance(error, KeyboardInterrupt | SystemExit | asyncio.CancelledError)
            with contextlib.suppress(OSError):  # a full disk is what the error is about
                self._end_early(error, stopped)
            if note := self.describe_remains(stopped):
                error.add_note(note)
        finally:
            self._lock.release()

    def _settle(self) -> None:
        """Write how the run has ended; a complete one takes its place."""
        if self.status == "running":
            self._manifest = manifest.end(self._manifest, "complete")
        if self.status == "complete":
            for name in WRITTEN:  # before anything says that it is complete
                sync_tree(self.path / name)
        write_json(self.path, "manifest.json", self._manifest)
        if self.status == "complete":
            remove(self.path / CHECKPOINTS)
        if self.path == self.home:
            if self.status == "complete":
                replacing.discard_attempts(self.home)
        elif self._may_replace():
            replacing.replace_results(self.home)
            self.path = self.home

    def _may_replace(self) -> bool:
        """Whether the run, which is over, takes the place of the one in its folder: only a complete one if that is complete.

        That of a sweep always does: its runs have folders of their own.
        """
        over_runs = self._file.sweep is not None and self._manifest["digest"] == self._file.sweep_digest()
        return self.status == "complete" or over_runs or replacing.read_status(self.home) != "complete"

    def _end_early(self, error: BaseException, stopped: bool) -> None:
        """Write why the run has not come to its end; a newer one that has left nothing is removed."""
        cause = "stopped from outside" if stopped else f"{type(error).__name__}: {error}"
        self._manifest = manifest.end(self._manifest, "interrupted" if stopped else "failed", cause)
        if self.path != self.home and replacing.entries(self.path) <= AT_FIRST:
            remove(self.path)
        else:
            write_json(self.path, "manifest.json", self._manifest)

    def describe_remains(self, stopped: bool = False) -> str:
        """What a run that has not come to its end leaves, in a line for the user; empty if that is as usual."""
        places = [self.path, *(self.path / f"seed-{seed}" for seed in self._manifest["seeds"])]
        kept = any(replacing.holds_checkpoints(place) for seed in places for place in (seed, seed / NEXT))
        resuming = f"fedsim resume {self.home}" if kept else ""
        if self.path == self.home:
            return f"to go on from the last checkpoint: {resuming}" if resuming and stopped else ""
        with contextlib.suppress(OutputError):
            ended = read_manifest(self.home).get("ended")
            there = f"{self.home} is as it was" + (f", with the run that ended {ended}" if ended else "")
            if resuming:
                return f"{there}; to go on with the new one from its last checkpoint: {resuming}"
            return f"{there}; what there is of the new one lies in {self.path}" if self.path.exists() else there
        return ""

    def watch(self, arm: str, also: Watch = lambda role, row: None) -> Watch:
        """A `Watch` that appends an arm's rows to ``metrics.jsonl`` as they come, until `write`: a stopped run has its own."""

        def one(role: RoleId, row: Mapping[str, Any]) -> None:
            if "step" in row:  # others are signs of life, no results
                with reporting_failures(self.path):
                    self._open_log().write(json_line(own(row, arm=arm, role=role)))
            also(role, row)

        return one

    def _open_log(self) -> TextIO:
        if self._log is None:  # line by line, so that another process can follow
            handle = open_plain(self.path / "metrics.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            self._log = open(handle, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed when the run is over)
        return self._log

    def _close_log(self) -> None:
        if self._log is not None:
            with contextlib.suppress(OSError):  # a line that found no room has been reported
                self._log.close()
            self._log = None

    def write(self, arms: Sequence[Arm]) -> dict[str, Any]:
        """Everything that played arms leave behind; returns the summary."""
        self._close_log()
        places = slugs(arm.name for arm in arms)
        logged = [own(row, arm=arm.name) for arm in arms for row in rows(arm.reports)]
        records = {arm.name: record(arm, places[arm.name], arm is arms[0]) for arm in arms}
        summary = summarise(self._file, arms)
        with reporting_failures(self.home):
            write_text(self.path, "metrics.jsonl", "".join(map(json_line, logged)), sync=False)
            for arm in arms:
                self._write_models(arm, records[arm.name])
                self._write_claims(arm, places[arm.name])
            write_json(self.path, "seats.json", {"schema": manifest.SCHEMA, "arms": records}, sync=False)
            write_json(self.path, "summary.json", summary, sync=False)
        self._manifest["noise_source"] = manifest.find_noise_sources(r for arm in arms for r in arm.reports)
        return summary

    def write_page(self, html: str) -> None:
        """Write ``report.html``."""
        with reporting_failures(self.home):
            write_text(self.path, "report.html", html, sync=False)

    def write_seeds(self, runs: Sequence[Path]) -> dict[str, Any]:
        """The summary over the finished runs of several seeds, each in a folder inside this one; returns it."""
        found = {run.relative_to(self.path).as_posix(): read_numbers(run) for run in runs}
        summary = over_seeds(found)
        self.write_summary(summary)
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """A summary over runs that have folders of their own."""
        with reporting_failures(self.home):
            write_json(self.path, "summary.json", summary, sync=False)

    def _write_models(self, arm: Arm, written: Mapping[str, Any]) -> None:
        for report in arm.reports:
            stem = written["seats"][report.role]["model"]
            withheld = report.withheld or ()  # what its own operator keeps has no file here
            if MODEL not in withheld:
                self._store(f"{stem}.safetensors", report.tensors)
            if SCHEMA not in withheld:
                write_json(self.path, f"{stem}.json", report.sidecar, sync=False)

    def _write_claims(self, arm: Arm, slug: str) -> None:
        made = [f for report in arm.reports for f in report.findings]
        for finding in made:
            name, claim = claim_file(slug, finding), finding.claim
            self._store(name, {"rows": claim.rows, "values": claim.values})
        judged = [f for report in arm.reports for f in report.judged] if is_part(arm) else []
        for finding in (*made, *judged):
            name = claim_file(slug, finding)
            if shown := exhibits(finding, arm):
                self._store(shown_file(name), shown)

    def _store(self, name: str, named: Mapping[str, Tensor]) -> None:
        write_files(self.path, {name: tensors.encode(named)}, sync=False)


def default_path(file: ScenarioFile, seeds: Sequence[int] = (), sweep: bool = False) -> Path:
    """Where a run goes unless the user says otherwise: ``runs/<name>-<digest8>``."""
    over = "-sweep" if sweep else f"-{len(seeds)}seeds" if seeds else ""
    digest = file.sweep_digest() if sweep else file.digest()
    return Path("runs") / f"{slugs([file.name])[file.name]}-{digest[:8]}{over}"


def complete(path: Path, file: ScenarioFile) -> bool:
    """Whether a run folder holds the results of the same file and the same data."""
    try:
        there = read(path).manifest
    except OutputError:
        return False
    mine = (file.digest(), file.scenario.data_digest(), "complete")
    return (there["digest"], there.get("data_sha256"), there["status"]) == mine


def settle(path: Path, status: manifest.Status, cause: str) -> None:
    """Mark a run whose process ended before it could do so itself; one that has its end, or is no run, stays as it is."""
    for place in (path / NEXT, path):
        try:
            there = read_manifest(place)
        except OutputError:
            continue
        if there["status"] == "running":
            write_json(place, "manifest.json", manifest.end(there, status, cause))


def discard_attempts(path: Path) -> None:
    """Remove unfinished runs beside a complete one that is kept.

    Raises:
        OutputError: another process is writing there.
    """
    inspect_folder(path)
    with reporting_failures(path), _locked(path) as lock:
        replacing.discard_attempts(path)
        lock.release()


@contextlib.contextmanager
def _locked(path: Path, advice: str = "wait for its end, or end it") -> Iterator[FolderLock]:
    """Lock a folder and mend what a crash has left; the lock stays if all goes well."""
    lock = FolderLock.acquire(path, ACTIVITY, advice)
    try:
        replacing.recover(path)
        yield lock
    except BaseException:
        lock.release()
        raise


def _refuse_foreign(path: Path, begun: Mapping[str, Any], locked: bool = False) -> None:
    """Raise OutputError unless ``path`` is free or holds the same experiment; ``locked`` by this process."""
    if path.is_file():
        raise OutputError(f"{path}: a file; expected a folder to write the run to")
    if not path.exists() or not replacing.entries(path):
        return
    try:
        there = parse(read_file(path, "manifest.json", replacing.MOST_MANIFEST_BYTES))
        same, digest = [there[k] == begun[k] for k in ("digest", "seeds", "data_sha256")], str(there["digest"])
        barren = there["status"] != "complete" and replacing.entries(path) <= AT_FIRST
        schema.WrittenManifest.model_validate(there)
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(f"{path}: holds files but no run of ours; choose an empty folder with --out") from None
    if locked and _still_written(there):  # before, the lock has more to tell
        raise OutputError(f"{path}: process {there['process']['pid']} is {ACTIVITY} there: {ELSEWHERE}")
    if not all(same) and not barren:
        mine = str(begun["digest"])[:8]
        seeds = f"seeds {there['seeds'] or there.get('seed')}" if not same[1] else "the same settings on other data"
        other = seeds if same[0] else f"experiment {digest[:8]}"
        raise OutputError(f"{path}: holds another run, of {other}, not of {mine}; choose another folder with --out")


def _lasts(there: Mapping[str, Any], file: ScenarioFile) -> str:
    """Why a run cannot be taken up again, or nothing."""
    if there["status"] == "complete":
        return "it is complete"
    if _still_written(there):
        return f"process {there['process']['pid']} is writing it; wait for its end, or end it"
    if file.sweep is not None and there["digest"] == file.sweep_digest():
        return "it is a sweep; the same fedsim sweep again plays what is not complete"
    if not any(arm.checkpoint for arm in file.arms().values()):
        return "it takes no checkpoints; add checkpoint: {every: STEPS} to the scenario and run it anew"
    if there["digest"] != file.digest():
        return f"its scenario.yaml is experiment {file.digest()[:8]} now, and was {str(there['digest'])[:8]}"
    if there["data_sha256"] != file.scenario.data_digest():
        return "its data is not what it was"
    return ""


def _still_written(there: Mapping[str, Any]) -> bool:
    """Whether the process that a manifest names still writes the run, which counts where a file system has no locks."""
    process = there["process"]
    if there["status"] != "running" or process["host"] != platform.node() or process["pid"] == os.getpid():
        return False
    try:
        os.kill(int(process["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to somebody else
        pass
    begun = datetime.fromisoformat([there["started"], *there.get("resumed", ())][-1]).timestamp()
    return not _has_ended(int(process["pid"]), begun)


def _has_ended(pid: int, since: float) -> bool:
    """Whether a process has ended though its number is taken: its parent has not noticed, or a later one has the number.

    Args:
        pid: the number.
        since: when the process was there; seconds since the epoch.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        booted = float(Path("/proc/stat").read_text().partition("btime ")[2].split()[0])
    except (OSError, IndexError):  # the system does not tell
        return False
    started = booted + int(status[19]) / os.sysconf("SC_CLK_TCK")
    return status[0] in (b"Z", b"X") or started > since + CLOCK_TOLERANCE_S
