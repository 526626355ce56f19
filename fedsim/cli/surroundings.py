"""What ``fedsim doctor`` says of a machine's surroundings: loopback, temporary folders, variables, other engines."""

from __future__ import annotations

import codecs
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from fedsim.errors import ConfigError
from fedsim.runtime._deployment import PREFIX, SWITCHES
from fedsim.runtime._environment import (
    INTERPRETER_MODES,
    LOOPBACK_NAMES,
    PROXIES,
    exempt_loopback,
    foreign_variables,
    make_short_folder,
    usable_home,
)
from fedsim.runtime.ray import ADDRESS, SHARED_MEMORY, SOCKET_BYTES, has_shared_memory, resolve_address
from fedsim.transport.addresses import LOOPBACK_HOSTS, probe_loopback
from fedsim.vfl.device import DEVICE, find_device

LISTENERS = {
    "Ray": {6379: "its address", 8265: "its dashboard", 10001: "its clients"},
    "Flower": {8000: "its SuperLink", 9091: "its ServerApps", 9092: "its SuperNodes", 9093: "its users"},
}
"""Ports at which an engine listens that somebody has started by hand."""
KNOCK_S = 0.2
"""The time limit of a connection to such a port; it is on this machine."""
FEW_FILES = 256
"""Open files below which a process of a large federation may run out of them."""


class Found(NamedTuple):
    """One finding: how bad it is, of what, what was found, and what to do."""

    state: Literal["ok", "note", "wrong"]
    what: str
    found: str
    do: str = ""


def look_around() -> Iterator[Found]:
    """All that is worth a line; what is as usual has one only where people look for it."""
    yield find_loopback_state()
    yield from (
        *_proxies(),
        *_variables(),
        *_folders(),
        *_shared_memory(),
        *_device(),
        *_terminal(),
        *_engines(),
        *_files(),
    )


def find_loopback_state() -> Found:
    """Whether processes of this machine reach each other."""
    reasons = {host: probe_loopback(host) for host in LOOPBACK_HOSTS}
    working = [host for host, reason in reasons.items() if not reason]
    if LOOPBACK_HOSTS[0] in working:
        return Found("ok", "ports", f"processes reach each other on {' and '.join(working)}")
    if working:
        lacking = f"{LOOPBACK_HOSTS[0]}: {reasons[LOOPBACK_HOSTS[0]]}"
        do = "nothing, but for ray: ip addr add 127.0.0.1/8 dev lo"
        return Found("note", "ports", f"processes reach each other on {working[0]} only ({lacking})", do)
    told = "; ".join(f"{host}: {reason}" for host, reason in reasons.items())
    return Found(
        "wrong", "ports", told, "allow connections on loopback (ip link set lo up); only 'local' works without"
    )


def _proxies() -> Iterator[Found]:
    names = [name for proxy in PROXIES for name in (proxy, proxy.upper()) if os.environ.get(name)]
    if not names:
        return
    found = f"{', '.join(names)}: seats, Ray and Flower are reached without it, on this machine and on others"
    if exempt_loopback(os.environ) == dict(os.environ):
        yield Found("ok", "proxy", found)
    else:
        do = f"nothing; for flwr by hand: export no_proxy={','.join(LOOPBACK_NAMES)}"
        yield Found("note", "proxy", found, do)


def _variables() -> Iterator[Found]:
    if address := os.environ.get(ADDRESS, ""):
        joined = "runtime.address: auto joins it"
        try:
            resolve_address(address)
        except ConfigError:
            joined = "it is a dashboard for jobs, which no run can join"
        yield Found("note", ADDRESS, f"{address:.60}: --runtime ray starts a Ray of its own all the same", joined)
    for engine, prefix, own in (("ray", "RAY_", (ADDRESS,)), ("flower", PREFIX, tuple(SWITCHES))):
        if names := foreign_variables(prefix, own):
            found = f"{', '.join(names)}: not passed on to a {engine} that fedsim starts"
            yield Found("note", f"{prefix}*", found, "nothing, or unset them")
    if names := [name for name in INTERPRETER_MODES if os.environ.get(name)]:
        yield Found("note", "python", f"{', '.join(names)}: not passed on to the processes of seats", "nothing")


def _folders() -> Iterator[Found]:
    asked = os.environ.get("TMPDIR", "")
    try:
        used = tempfile.gettempdir()
    except FileNotFoundError:
        do = "make room in /tmp, or set TMPDIR to a folder that can be written to; only 'local' works without"
        yield Found("wrong", "TMPDIR", "no temporary folder can be written to", do)
        return
    if asked and os.path.abspath(asked) != os.path.abspath(used):
        yield Found("note", "TMPDIR", f"{asked} cannot be written to, or is full; {used} is used", "set it to another")
    try:
        (folder := make_short_folder("fedsim-ray-", SOCKET_BYTES)).rmdir()
    except ConfigError as error:
        yield Found("wrong", "sockets", str(error), "for ray and flower set TMPDIR; local and processes work without")
    else:
        if folder.parent != Path(used):
            found = f"the path of {used} is too long for sockets; those of ray and flower go to {folder.parent}"
            yield Found("ok", "sockets", found)
    if usable_home(Path(used)):
        do = "nothing: engines are given another; FEDSIM_CACHE names a folder for models that are kept"
        yield Found("note", "HOME", f"{os.path.expanduser('~')} cannot be written to", do)


def _shared_memory() -> Iterator[Found]:
    if sys.platform == "linux" and not has_shared_memory():
        found = f"{SHARED_MEMORY} is missing or small: ray keeps its objects in its temporary folder"
        yield Found("note", "shared memory", found, "nothing; in a container: --shm-size=256m")


def _device() -> Iterator[Found]:
    if not os.environ.get(DEVICE):
        return
    try:
        yield Found("ok", DEVICE, str(find_device()))
    except ConfigError as error:
        yield Found("wrong", DEVICE, str(error), "unset it: seats train on the CPU then")


def _terminal() -> Iterator[Found]:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        found = f"{encoding}: what it has no sign for is spelled in ASCII"
        yield Found("ok", "terminal", found, "nothing, or set LANG=C.UTF-8")


def _engines() -> Iterator[Found]:
    for engine, ports in LISTENERS.items():
        if open_ports := {port: what for port, what in ports.items() if _answers(port)}:
            found = ", ".join(f"{port} ({what})" for port, what in open_ports.items())
            do = "nothing: fedsim starts its own on free ports"
            do += "; to join a Ray that runs here: runtime.address: auto" if engine == "Ray" else ""
            yield Found("ok", "listeners", f"something listens at {found}, as {engine} does", do)


def _answers(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK_HOSTS[0], port), KNOCK_S).close()
    except OSError:
        return False
    return True


def _files() -> Iterable[Found]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        more = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        yield Found("note", "open files", f"at most {soft} a process", f"ulimit -n 4096 (at most {more})")
