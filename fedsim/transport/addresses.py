"""Network addresses: split ``host:port``, find this machine's loopback, explain why an address cannot be used."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Callable

from fedsim.errors import ConfigError, TransportBroken

LOOPBACK_HOSTS = ("127.0.0.1", "::1")
"""Loopback addresses, in the order in which they are tried; a machine may have only the second."""
MAX_PORT = 65535
CONNECT_TIMEOUT_S = 1.0
"""The time limit of a connection from this process to itself."""


def split_address(address: str, option: str = "address") -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host stands in brackets, which are taken off.

    Args:
        address: the text to split.
        option: what the error calls it.

    Raises:
        ConfigError: it has another form, or the port is over 65535.
    """
    found = re.fullmatch(r"(\[[^\s\[\]]*:[^\s\[\]]*\]|[^\s:\[\]]+):(\d{1,5})", address)
    if found is None:
        bare = re.fullmatch(r"([0-9a-fA-F:]*::?[0-9a-fA-F:]*):(\d{1,5})", address)
        hint = f"; an IPv6 address stands in brackets: [{bare[1]}]:{bare[2]}" if bare else ""
        raise ConfigError(f"{option}: expected HOST:PORT, such as 127.0.0.1:7000; found '{address:.80}'{hint}")
    host, port = found[1].strip("[]"), int(found[2])
    if port > MAX_PORT:
        raise ConfigError(f"{option}: expected a port from 0 to {MAX_PORT}; found {port}")
    return host, port


def join_address(host: str, port: int) -> str:
    """Join a host and a port; a host with colons is put in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name: an address of the loopback device, or ``localhost``.

    Any other name is not asked for: who answers for it may answer otherwise a moment later.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def find_loopback() -> str:
    """Find the address under which processes of this machine reach each other: 127.0.0.1, else ::1.

    Raises:
        TransportBroken: neither can be used.
    """
    reasons = []
    for host in LOOPBACK_HOSTS:
        reason = probe_loopback(host)
        if not reason:
            return host
        reasons.append(f"{host}: {reason}")
    raise TransportBroken(
        f"processes cannot reach each other on this machine ({'; '.join(reasons)}): "
        "bring up its loopback device (ip link set lo up) and allow connections there; only runtime 'local' works without"
    )


def probe_loopback(host: str) -> str:
    """Connect to ``host`` from this process; the reason why that fails, else an empty string."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with (
            socket.create_server((host, 0), family=family) as server,
            socket.create_connection(server.getsockname()[:2], CONNECT_TIMEOUT_S),
        ):
            return ""
    except OSError as error:
        return _reason(error)


def explain_listen(address: str) -> str:
    """Explain why nobody can listen at ``host:port``, by trying it; empty if it works now."""
    return _explain(address, _listen, {errno.EADDRINUSE: "the port is taken by another process"})


def explain_connect(address: str, timeout_s: float) -> str:
    """Explain why nobody can connect to ``host:port``, by trying it; empty if it works now."""

    def connect(family: socket.AddressFamily, where: tuple[object, ...]) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            attempt.settimeout(timeout_s)
            attempt.connect(where)

    return _explain(address, connect, {errno.ECONNREFUSED: "nothing listens there"})


def _explain(
    address: str, attempt: Callable[[socket.AddressFamily, tuple[object, ...]], None], words: dict[int, str]
) -> str:
    """The reason of the first failure over all addresses of a name; empty if one of them works."""
    host, port = split_address(address)
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return f"the name '{host}' does not resolve ({getattr(error, 'strerror', '') or error})"
    reasons = []
    for family, _, _, _, where in places:
        try:
            attempt(family, where)
        except OSError as error:
            reasons.append(words.get(error.errno or 0) or _reason(error, port))
        else:
            return ""
    return reasons[0] if reasons else "it has no address"


def _listen(family: socket.AddressFamily, where: tuple[object, ...]) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        # What has been closed a moment ago still holds its port, but gRPC may listen there.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        attempt.bind(where)
        attempt.listen()


def _reason(error: OSError, port: int = 0) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "no network device of this machine has this address"
    if error.errno in (errno.EACCES, errno.EPERM) and 0 < port < 1024:
        return f"no permission: ports below 1024 are for root; take one above, such as {port + 8000}"
    if isinstance(error, TimeoutError):
        return "no answer"
    return (error.strerror or str(error)).lower() if error.errno not in (None, 0) else str(error)


def free_port(host: str) -> int:
    """A port of this machine that nobody listens at now.

    Raises:
        ConfigError: there is none.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ConfigError(f"no free port at {host}: {reason.lower()}") from error
