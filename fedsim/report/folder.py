"""Writing a run folder: refused if it is not ours to write, marked at once, every file whole or not there."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import yaml
from torch import Tensor

from fedsim.config import ScenarioFile
from fedsim.errors import OutputError
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.report import manifest
from fedsim.report.reading import read, read_manifest
from fedsim.report.record import claim_file, exhibits, record, shown_file, slugs
from fedsim.report.seeds import over_seeds
from fedsim.report.summary import Arm, finite, rows, summarise

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


class RunFolder:
    """A run folder that is being written; leaving it as a context settles its status.

    >>> import tempfile
    >>> from fedsim.config import read
    >>> with RunFolder.open_for(Path(tempfile.mkdtemp()), read("baseline")) as run:
    ...     run.status
    'running'
    >>> run.status
    'complete'

    Attributes:
        path: where it lies.
    """

    def __init__(self, path: Path, file: ScenarioFile, begun: Mapping[str, Any]) -> None:
        self.path, self._file, self._manifest = path, file, dict(begun)
        self._log: TextIO | None = None

    @staticmethod
    def open_for(
        path: Path,
        file: ScenarioFile,
        command: Sequence[str] = (),
        seeds: Sequence[int] = (),
        sweep: bool = False,
        going_on: bool = False,
    ) -> RunFolder:
        """Make the folder and mark it as running.

        Args:
            path: may be missing, empty, or hold an earlier run of the same experiment, which is replaced; so is any
                run that ended before its first result.
            file: what is about to be played.
            command: the command line, for the manifest.
            seeds: for a folder over the runs of several seeds.
            sweep: for a folder over the runs of the file's sweep, which are left where they are.
            going_on: checkpoints are left where they are.

        Raises:
            OutputError: there is a file, another run, or something that is not a run; or it cannot be written.
        """
        begun = manifest.begin(file, command, seeds, sweep)
        try:
            _refuse_foreign(path, begun)
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "manifest.json", begun)  # first: an interrupted clean-up still leaves a run of ours
            for name in WRITTEN:
                if not (going_on and name == CHECKPOINTS):
                    _remove(path / name)
            write_text(path / "scenario.yaml", scenario_text(file))
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
        return RunFolder(path, file, begun)

    @staticmethod
    def reopen(path: Path, file: ScenarioFile) -> RunFolder:
        """Go on with a run that has not come to its end.

        Args:
            path: its folder.
            file: its scenario, as it lies there; perhaps under another runtime.

        Raises:
            OutputError: it is complete, still runs, takes no checkpoints, or is not what it was.
        """
        there = read_manifest(path)
        if why := _lasts(there, file):
            raise OutputError(f"{path}: cannot be resumed: {why}")
        begun = manifest.again(there)
        try:
            write_json(path / "manifest.json", begun)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
        return RunFolder(path, file, begun)

    @property
    def status(self) -> str:
        """``running``, ``complete``, ``interrupted`` or ``failed``."""
        return str(self._manifest["status"])

    def end(self, status: manifest.Status, cause: str | None = None) -> None:
        """Settle the status, with a cause of one line if it went wrong."""
        self._close_log()
        self._manifest = manifest.end(self._manifest, status, cause)
        write_json(self.path / "manifest.json", self._manifest)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self.status == "running":
                self.end("complete")
        elif isinstance(error, KeyboardInterrupt | SystemExit | asyncio.CancelledError):
            self.end("interrupted", "stopped from outside")
            places = [self.path, *(self.path / f"seed-{seed}" for seed in self._manifest["seeds"])]
            if any(part for place in places for part in (place / CHECKPOINTS).glob("**/step-*")):
                error.add_note(f"to go on from the last checkpoint: fedsim resume {self.path}")
        else:
            self.end("failed", f"{type(error).__name__}: {error}")

    def watch(self, arm: str, also: Watch = lambda role, row: None) -> Watch:
        """A `Watch` that appends an arm's rows to ``metrics.jsonl`` as they come, until `end`: a stopped run has its own."""

        def one(role: RoleId, row: Mapping[str, Any]) -> None:
            if "step" in row:  # others are signs of life, no results
                self._open_log().write(_line({"arm": arm, "role": role, **row}))
            also(role, row)

        return one

    def _open_log(self) -> TextIO:
        if self._log is None:  # line by line, so that another process can follow
            self._log = (self.path / "metrics.jsonl").open("a", encoding="utf-8", buffering=1)
        return self._log

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def write(self, arms: Sequence[Arm]) -> dict[str, Any]:
        """Everything that played arms leave behind; returns the summary."""
        self._close_log()
        places = slugs(arm.name for arm in arms)
        logged = [{"arm": arm.name, **row} for arm in arms for row in rows(arm.reports)]
        write_text(self.path / "metrics.jsonl", "".join(map(_line, logged)))
        records = {arm.name: record(arm, places[arm.name], arm is arms[0]) for arm in arms}
        for arm in arms:
            self._write_models(arm, records[arm.name])
            self._write_claims(arm, places[arm.name])
        write_json(self.path / "seats.json", {"schema": manifest.SCHEMA, "arms": records})
        summary = summarise(self._file, arms)
        write_json(self.path / "summary.json", summary)
        return summary

    def forget(self) -> None:
        """Remove what the run could be taken up from."""
        _remove(self.path / CHECKPOINTS)

    def write_seeds(self, runs: Sequence[Path]) -> dict[str, Any]:
        """The summary over the finished runs of several seeds, each in a folder inside this one; returns it."""
        found = {
            run.relative_to(self.path).as_posix(): json.loads((run / "summary.json").read_text("utf-8")) for run in runs
        }
        summary = over_seeds(found)
        self.write_summary(summary)
        return summary

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """A summary over runs that have folders of their own."""
        write_json(self.path / "summary.json", summary)

    def _write_models(self, arm: Arm, written: Mapping[str, Any]) -> None:
        for report in arm.reports:
            stem = written["seats"][report.role]["model"]
            _write_tensors(self.path / f"{stem}.safetensors", report.tensors)
            write_json(self.path / f"{stem}.json", report.sidecar)

    def _write_claims(self, arm: Arm, slug: str) -> None:
        for finding in (f for report in arm.reports for f in report.findings):
            name, claim = claim_file(slug, finding), finding.claim
            _write_tensors(self.path / name, {"rows": claim.rows, "values": claim.values})
            if shown := exhibits(finding, arm):
                _write_tensors(self.path / shown_file(name), shown)


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
    try:
        there = read_manifest(path)
    except OutputError:
        return
    if there["status"] == "running":
        write_json(path / "manifest.json", manifest.end(there, status, cause))


def scenario_text(file: ScenarioFile) -> str:
    """The resolved file as YAML that reads back to the same digest."""
    head = " ".join(f"# {file.name}, resolved: every default is written out".split()) + "\n"  # a name is one line here
    return head + yaml.dump(file.resolved(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def write_json(path: Path, value: Any) -> None:
    """Plain values as indented JSON; a number that is not finite becomes null."""
    write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, at any moment, finds the old one or the new one, whole."""
    _replace(path, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))


class _Dumper(yaml.SafeDumper):
    """Writes each value out, and quotes what our loader would take for a number: the text ``1e-3``."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n"


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    # views of one storage cannot be stored, copies can
    copies = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    _replace(path, lambda draft: save_file(copies, draft))


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refuse_foreign(path: Path, begun: Mapping[str, Any]) -> None:
    """Raise OutputError unless ``path`` is free or holds the same experiment."""
    if path.is_file():
        raise OutputError(f"{path}: a file; expected a folder to write the run to")
    if not path.exists() or not any(path.iterdir()):
        return
    try:
        there = json.loads((path / "manifest.json").read_text("utf-8"))
        same, digest = [there[k] == begun[k] for k in ("digest", "seeds", "data_sha256")], str(there["digest"])
        barren = there["status"] in ("failed", "interrupted") and {f.name for f in path.iterdir()} <= AT_FIRST
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(f"{path}: holds files but no run of ours; choose an empty folder with --out") from None
    if there["status"] == "running" and _alive(there["process"]):
        raise OutputError(
            f"{path}: process {there['process']['pid']} is writing a run there; choose another folder with --out"
        )
    if not all(same) and not barren:
        mine = str(begun["digest"])[:8]
        seeds = f"seeds {there['seeds'] or there.get('seed')}" if not same[1] else "the same settings on other data"
        other = seeds if same[0] else f"experiment {digest[:8]}"
        raise OutputError(f"{path}: holds another run, of {other}, not of {mine}; choose another folder with --out")


def _lasts(there: Mapping[str, Any], file: ScenarioFile) -> str:
    """Why a run cannot be taken up again, or nothing."""
    if there["status"] == "complete":
        return "it is complete"
    if there["status"] == "running" and _alive(there["process"]):
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


def _alive(process: Mapping[str, Any]) -> bool:
    """Whether another process of this machine, named in a manifest, still runs."""
    if process["host"] != platform.node() or process["pid"] == os.getpid():
        return False
    try:
        os.kill(int(process["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to somebody else
        pass
    return not _defunct(int(process["pid"]))


def _defunct(pid: int) -> bool:
    """Whether a process has ended, and only its parent has not taken note; False where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return False
