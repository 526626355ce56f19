"""``fedsim doctor``: what this machine has of what runs need, and what to do about the rest."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rich.markup import escape

from fedsim.cli.surroundings import Found, look_around
from fedsim.cli.tables import bare
from fedsim.cli.terminal import Terminal
from fedsim.distribution import DISTRIBUTION, find_foreign_project, format_install_command

NEEDED = (DISTRIBUTION, "torch", "numpy", "grpcio")
EXTRAS = {"ray": "ray", "flwr": "flower", "cryptography": "flower", "pyarrow": "parquet"}
"""Packages that are asked for by an extra, and which."""
SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""What keeps Flower from calling home and installing packages when it is started by hand; fedsim sets these itself."""
ROOM = 2 << 30
"""Bytes that ought to be free for run folders and temporary files."""
SOON = timedelta(days=1)
"""A certificate that expires within this is told of."""
AHEAD = timedelta(minutes=1)
"""By how much a file just written may seem to come from another time."""
PATIENCE = 5.0
"""Seconds that Docker may take to answer."""


def diagnose(certificates: Sequence[Path]) -> bool:
    """Print what was found; False if something is wrong."""
    console, table = Terminal(), bare("", "", "what", "found", "what to do")
    colours = {"ok": "green", "note": "yellow", "wrong": "red"}
    found = list(_all(certificates))
    for each in found:
        state = f"[{colours[each.state]}]{each.state}[/]"
        table.add_row(state, *(escape(text) for text in (each.what, each.found, each.do)))
    console.print(table)
    return all(each.state != "wrong" for each in found)


def _all(certificates: Sequence[Path]) -> Iterator[Found]:
    yield from _versions()
    yield from _name()
    yield from (*look_around(), *_clock(), _gpu(), _docker(), *_disk(), *_data(), *_flower())
    for path in certificates:
        yield _certificate(path)


def _versions() -> Iterator[Found]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Found("ok", "python", python) if sys.version_info >= (3, 11) else Found("wrong", "python", python, "3.11 on")
    for package in NEEDED:
        yield _version(package, "wrong", format_install_command())
    for package, extra in EXTRAS.items():
        yield _version(package, "note", f"{format_install_command(extra)}, if a run needs it")


def _version(package: str, without: Literal["note", "wrong"], do: str) -> Found:
    try:
        return Found("ok", package, version(package))
    except PackageNotFoundError:
        return Found(without, package, "not installed", do)


def _name() -> Iterator[Found]:
    """Another project has the name `fedsim` on the package index, and the same import name."""
    clash = find_foreign_project()
    if clash is not None:
        yield Found("wrong" if clash.fatal else "note", "name", clash.found, clash.remedy)


def _clock() -> Iterator[Found]:
    """Certificates hold from one time to another: against what this machine writes down and what it has installed."""
    now, built = datetime.now(UTC), datetime.fromtimestamp(Path(ssl.__file__).stat().st_mtime, UTC)
    written = now
    with contextlib.suppress(OSError), tempfile.NamedTemporaryFile() as file:  # what that means for runs is told above
        written = datetime.fromtimestamp(Path(file.name).stat().st_mtime, UTC)
    text = f"{now:%Y-%m-%d %H:%M:%S} UTC, {time.tzname[0]} here"
    if abs(written - now) > AHEAD:
        yield Found("wrong", "clock", f"{text}; files are dated {written:%Y-%m-%d %H:%M:%S}", "set the clocks alike")
    elif now < built:
        do = "set the clock: certificates depend on it"
        yield Found("wrong", "clock", f"{text}; Python was installed later", do)
    else:
        yield Found("ok", "clock", text)


def _gpu() -> Found:
    import torch

    if not torch.cuda.is_available():
        return Found("note", "gpu", "torch finds none", "nothing: seats train on the CPU")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Found("ok", "gpu", ", ".join(names))


def _docker() -> Found:
    if shutil.which("docker") is None:
        return Found("note", "docker", "not installed", "nothing, unless seats are to run in containers")
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Found(
            "note", "docker", f"does not answer: {error}", "start its daemon, if seats are to run in containers"
        )
    if said.returncode:
        reason = " ".join(said.stderr.split())[:100]
        return Found(
            "note", "docker", reason, "start its daemon, or set DOCKER_HOST, if seats are to run in containers"
        )
    return Found("ok", "docker", said.stdout.strip())


def _disk() -> Iterator[Found]:
    folders = {"disk, here": Path.cwd()}
    with contextlib.suppress(FileNotFoundError):  # there is none: that is told above
        folders["disk, temporary"] = Path(tempfile.gettempdir())
    for what, folder in folders.items():
        free = shutil.disk_usage(folder).free
        text = f"{free / 2**30:.1f} GiB free at {folder}"
        if not os.access(folder, os.W_OK):
            yield Found("wrong", what, f"{folder} cannot be written to", "work elsewhere, or set TMPDIR")
        elif free < ROOM:
            yield Found("note", what, text, f"make room: runs may want {ROOM >> 30} GiB")
        else:
            yield Found("ok", what, text)


def _data() -> Iterator[Found]:
    folder = os.environ.get("FEDSIM_DATA", "")
    if folder and not Path(folder).is_dir():
        yield Found("wrong", "FEDSIM_DATA", f"{folder} is no folder", "set it to where data sets lie, or not at all")
    elif folder:
        yield Found("ok", "FEDSIM_DATA", folder)


def _flower() -> Iterable[Found]:
    missing = [f"{name}={value}" for name, value in SWITCHES.items() if os.environ.get(name) != value]
    if missing and _version("flwr", "note", "").state == "ok":
        yield Found(
            "note",
            "flower",
            "calls home and installs packages, if it is started by hand",
            f"export {' '.join(missing)}",
        )


def _certificate(path: Path) -> Found:
    try:
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ImportError:
        return Found("note", str(path), "cannot be looked at without cryptography", format_install_command("flower"))
    except (OSError, ValueError) as error:
        return Found("wrong", str(path), f"no certificate: {error}", "give a file such as fedsim keys writes: cert.pem")
    now, until = datetime.now(UTC), certificate.not_valid_after_utc
    text = f"{certificate.subject.rfc4514_string()}{_hosts(certificate)}, until {until:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        return Found("wrong", str(path), f"{text}; does not hold yet", "set the clock")
    if now > until:
        return Found("wrong", str(path), f"{text}; has expired", "make new ones for all seats: fedsim keys")
    if now + SOON > until:
        return Found("note", str(path), f"{text}; expires within a day", "make new ones for all seats: fedsim keys")
    return Found("ok", str(path), text)


def _hosts(certificate: object) -> str:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return f" at {', '.join(str(name.value) for name in names)}"
