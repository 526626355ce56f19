"""Starts the processes of others and ends them all: when it is told so, and when whoever told it what to start is gone.

An order is a line of JSON on standard input, a name and what to start; when one ends, its name and exit code go back.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SUBREAPER = 36
"""Linux's number for: a process whose parent ends becomes mine."""


def main() -> None:
    """Follow orders until the input ends; then leave nothing, not even the folder that is named on the command line."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    folder = Path(sys.argv[1])
    try:
        for line in sys.stdin:
            _start(json.loads(line), folder)
    finally:
        _end_all()
        shutil.rmtree(folder, ignore_errors=True)


def _start(order: Mapping[str, Any], folder: Path) -> None:
    log = sys.stderr if order["verbose"] else (folder / f"{order['name']}.log").open("wb")
    process = subprocess.Popen(
        order["command"], env=order["environment"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )

    def tell() -> None:
        code = process.wait()
        with contextlib.suppress(OSError):  # nobody listens any more
            print(json.dumps([order["name"], code]) + "\n", end="", flush=True)  # whole: several may end at once

    threading.Thread(target=tell, daemon=True).start()


def _end_all() -> None:
    """Kill what was started and what that has started in turn, until there is nothing left to kill."""
    while alive := _below(os.getpid()):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def _below(pid: int) -> set[int]:
    """The processes below one that have not ended, by Linux's own tables."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):  # it has ended
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found
