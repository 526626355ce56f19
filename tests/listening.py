"""Which addresses the processes of this machine listen on, from Linux's own tables."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

LISTENING = "0A"


def addresses(pids: Iterable[int]) -> set[str]:
    """The hosts on which these processes accept TCP connections."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            local, state, inode = (line.split()[i] for i in (1, 3, 9))
            if state == LISTENING and inode in inodes:
                found.add(_host(local.partition(":")[0], family))
    return found


def children(pid: int) -> set[int]:
    """The processes below ``pid``, whatever their session."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has ended
            continue
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def words(pid: int) -> str:
    """The command line of a process, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except FileNotFoundError:
        return ""


def _sockets(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(path)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def _host(raw: str, family: socket.AddressFamily) -> str:
    words = [raw[i : i + 8] for i in range(0, len(raw), 8)]
    found = socket.inet_ntop(family, b"".join(struct.pack("=I", int(word, 16)) for word in words))
    return found.removeprefix("::ffff:")  # an IPv4 address on a socket for both
