"""What a run was made with: versions, machine, revision, command. Gathered once, written into ``manifest.json``."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from fedsim.config import ScenarioFile
from fedsim.distribution import read_version
from fedsim.errors import restore_text
from fedsim.message import RoleId
from fedsim.outcome import NoiseSource, SeatReport

Status = Literal["running", "complete", "interrupted", "failed"]
SCHEMA = 1
PACKAGES = ("torch", "numpy", "scikit-learn", "pandas", "safetensors", "pydantic", "msgspec")
"""Those whose version may change a number of a run."""


def begin(file: ScenarioFile, command: Sequence[str], seeds: Sequence[int] = (), sweep: bool = False) -> dict[str, Any]:
    """The manifest of a run that starts now; ``seeds`` if it is a run over several, ``sweep`` if over the file's cells."""
    return {
        "schema": SCHEMA,
        "status": "running",
        "cause": None,
        "name": file.name,
        "digest": file.sweep_digest() if sweep else file.digest(),
        "data_sha256": file.scenario.data_digest(),
        "seed": file.seed,
        "seeds": list(seeds),
        "command": [restore_text(word) for word in command],
        "started": now(),
        "ended": None,
        "versions": versions(),
        "platform": platform.platform(),
        "cpu": cpu(),
        "threads": file.threads,
        "git": revision(Path(__file__).parent),
        "process": {"host": platform.node(), "pid": os.getpid()},
    }


def again(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a run that goes on now."""
    resumed = [*manifest.get("resumed", ()), now()]
    process = {"host": platform.node(), "pid": os.getpid()}
    return {**manifest, "status": "running", "cause": None, "ended": None, "resumed": resumed, "process": process}


def drift(manifest: Mapping[str, Any]) -> list[str]:
    """What is not as it was when a run began, and may change bits: versions, the processor."""
    here = {**versions(), "cpu": cpu()["model"]}
    there = {**manifest["versions"], "cpu": manifest["cpu"]["model"]}
    return [f"{name} was {there.get(name)}, is {found}" for name, found in here.items() if there.get(name) != found]


def end(manifest: Mapping[str, Any], status: Status, cause: str | None = None) -> dict[str, Any]:
    """The manifest of a run that ends now; ``cause`` is cut to one line."""
    line = " ".join((cause or "").split())[:500] or None
    return {**manifest, "status": status, "cause": line, "ended": now()}


def find_noise_sources(reports: Iterable[SeatReport]) -> dict[RoleId, NoiseSource]:
    """By seat, what its noise follows from: the public seed, if it does in any arm, or a secret of the seat's own."""
    found: dict[RoleId, NoiseSource] = {}
    for report in reports:
        found[report.role] = "seed" if "seed" in (found.get(report.role), report.noise_source) else "secret"
    return found


def now() -> str:
    """This moment in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str | None]:
    """Python's version and those of the packages that compute; None for one that is not installed."""
    return {
        "python": platform.python_version(),
        "fedsim": read_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def cpu(source: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Model, instruction set flags (they choose the kernels, hence the bits) and number of cores."""
    fields: dict[str, str] = {}
    try:
        text = source.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    model = fields.get("model name") or platform.processor() or platform.machine()
    flags = fields.get("flags") or fields.get("Features") or ""
    return {"model": model, "flags": flags.split(), "cores": os.cpu_count()}


def revision(folder: Path) -> dict[str, Any] | None:
    """The git revision of ``folder`` and whether its files differ from it; None outside a repository or without git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"revision": commit, "dirty": bool(_git(folder, "status", "--porcelain"))}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
