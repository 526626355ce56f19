"""Prepare what child processes and engines inherit from this process: variables, proxies, folders.

An engine that is started for one run must not depend on what the machine has set up for others: a proxy for the web, the
address of a cluster, a temporary folder with a path too long for a socket.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from fedsim.errors import ConfigError
from fedsim.transport.addresses import LOOPBACK_HOSTS

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "ftp_proxy", "ws_proxy", "wss_proxy")
"""Variables that name a proxy; programs read them in both cases."""
EXEMPTIONS = ("no_proxy", "no_grpc_proxy")
"""Variables that list hosts to which no proxy leads. gRPC reads the second alone where it is set."""
LOOPBACK_NAMES = ("localhost", *LOOPBACK_HOSTS)
SOCKET_PATH_BYTES = 103
"""The longest path of a Unix socket, in bytes: 107 on Linux, 103 on macOS."""
RANDOM_NAME_BYTES = 8
"""What `tempfile` adds to a prefix."""
FULL_BYTES = 1 << 20
"""With less space left than this an engine can no longer write its logs."""
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
"""Where folders go if the path of ``TMPDIR`` is too long, in order."""
INTERPRETER_MODES = ("PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONPROFILEIMPORTTIME", "PYTHONVERBOSE", "PYTHONDEBUG")
"""Variables for a Python that somebody sits in front of; a child would wait for input, or fill its error stream."""
ENGINE_MODES = ("PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONSAFEPATH", "GRPC_ADDRESS_HTTP_PROXY", "GRPC_TRACE")
"""Variables that engines are not written for: warnings as errors, no assertions, another order of modules."""


def child_environment(changes: Mapping[str, str], engine: str = "") -> dict[str, str]:
    """The environment of a Python process started here, which finds the same modules as this one.

    Args:
        changes: variables to set in it.
        engine: the prefix of the variables of an engine, such as ``FLWR_``; those of the user are left out.
    """
    modules = os.pathsep.join(path or os.getcwd() for path in sys.path)
    found = {name: value for name, value in os.environ.items() if name not in INTERPRETER_MODES}
    if engine:
        for name in (*foreign_variables(engine, changes), *ENGINE_MODES):
            found.pop(name, None)
    return {**exempt_loopback(found), "PYTHONPATH": modules, **changes}


def exempt_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """The same variables, so that no connection to this machine itself goes through a proxy."""
    found = dict(environment)
    if not any(found.get(name) for proxy in PROXIES for name in (proxy, proxy.upper())):
        return found
    for variable in EXEMPTIONS:
        spellings = [name for name in (variable, variable.upper()) if name in found]
        if not spellings and variable != EXEMPTIONS[0]:
            continue
        listed = [entry.strip() for name in spellings for entry in found[name].split(",") if entry.strip()]
        if "*" in listed:  # means no proxy at all, but gRPC does not know the star
            for proxy in PROXIES:
                found.pop(proxy, None)
                found.pop(proxy.upper(), None)
            return found
        entries = ",".join(dict.fromkeys([*listed, *LOOPBACK_NAMES]))
        found |= {variable: entries, variable.upper(): entries}
    return found


def foreign_variables(prefix: str, own: Collection[str]) -> list[str]:
    """The variables that steer an engine from outside: with its prefix, in capitals, set to something, none of ``own``.

    Those in small letters, such as ``RAY_health_check_period_ms``, tune an engine and lead it nowhere; so do those that say
    which accelerators it hides (``RAY_EXPERIMENTAL_NOSET_...``).
    """
    pattern = re.compile(rf"{prefix}(?!EXPERIMENTAL_NOSET_)[A-Z][A-Z0-9_]*")
    return sorted(name for name in os.environ if pattern.fullmatch(name) and name not in own)


def describe_ignored(names: Collection[str], engine: str, instead: str = "") -> str:
    """One line for people about variables that were left out; empty if there were none with a value."""
    told = [f"{name}={os.environ[name]:.60}" for name in names if os.environ.get(name)]
    if not told:
        return ""
    return f"ignored: {', '.join(told)}; this run starts a {engine} of its own{instead}"


@contextlib.contextmanager
def changed_environment(changes: Mapping[str, str], without: Collection[str] = ()) -> Iterator[None]:
    """This process's own variables with ``changes`` and ``without`` others, until the end."""
    before = {name: os.environ.get(name) for name in (*changes, *without)}
    for name in without:
        os.environ.pop(name, None)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def make_short_folder(prefix: str, below_bytes: int) -> Path:
    """Make a temporary folder for this user only, with a path short enough for Unix sockets below it.

    Args:
        prefix: how its name begins.
        below_bytes: the length of the longest path of a socket below the folder, with the slash.

    Raises:
        ConfigError: no place is both short enough and writable.
    """
    longest = SOCKET_PATH_BYTES - below_bytes - RANDOM_NAME_BYTES - len(prefix) - 1
    refused = []
    for place in dict.fromkeys((_temporary_folder(), *SHORT_FOLDERS)):
        if len(os.fsencode(place)) > longest:
            refused.append(f"{place}: {len(os.fsencode(place))} bytes")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        except OSError as error:
            refused.append(f"{place}: {(error.strerror or str(error)).lower()}")
    raise ConfigError(
        f"TMPDIR: expected a folder that can be written to, with a path of at most {longest} bytes for the sockets in it; "
        f"tried {'; '.join(refused)}"
    )


def _temporary_folder() -> str:
    """The folder for temporary files; the current one if Python finds none that can be written to."""
    try:
        return os.path.abspath(tempfile.gettempdir())
    except FileNotFoundError:
        return os.getcwd()


def usable_home(folder: Path) -> dict[str, str]:
    """``HOME`` set to ``folder`` where the user's own is missing or cannot be written to; else nothing."""
    home = os.path.expanduser("~")
    return {} if os.path.isabs(home) and os.access(home, os.W_OK | os.X_OK) else {"HOME": str(folder)}


@contextlib.contextmanager
def explained_writes(folder: Path) -> Iterator[None]:
    """Turn an error of the file system below a temporary folder into one that says what to do.

    Raises:
        ConfigError: something could not be written.
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{folder}: cannot be written to: {reason}; make room there, or set TMPDIR") from error


def describe_full_disk(folder: Path) -> str:
    """One line if next to nothing fits any more below ``folder``; else an empty string."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f"no space left at {folder}; make room there, or set TMPDIR" if free < FULL_BYTES else ""
