"""The process of one seat: its orders come on standard input, what it has to say goes back on standard output in parcels.

A parcel is a kind of one byte, a length and that many bytes. Orders are one line of JSON; a seat that is to join a hub
gets the hub's address as a second line. When the input ends, the process that gave the orders is gone, and this one ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO

PARCEL = struct.Struct("<cI")
ADDRESS, ROWS, REPORT, ERROR = b"A", b"R", b"O", b"E"
INPUT = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 (not buffered: a thread is reading when the process ends)
START = 600.0
"""Seconds in which all seats of a busy machine must have started; one that dies meanwhile is noticed by who started it."""
APART = 0.05
"""Seconds between two parcels of rows: a seat may log a thousand a second."""


def main() -> None:
    """Play the seat that the orders name."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints does so on standard error
    orders = json.loads(INPUT.readline())
    os.environ.update(orders["environment"])
    voice = Voice(out)
    try:
        asyncio.run(_play(orders, voice))
    except Exception as error:
        if orders["verbose"]:
            sys.excepthook(type(error), error, error.__traceback__)
        voice.flush()
        voice.say(ERROR, json.dumps([type(error).__name__, str(error)]).encode())
        sys.exit(1)


class Voice:
    """Parcels on their way out; rows are collected for a moment."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._rows: list[Mapping[str, Any]] = []

    def say(self, kind: bytes, content: bytes) -> None:
        """Send a parcel."""
        self._out.write(PARCEL.pack(kind, len(content)) + content)
        self._out.flush()

    def watch(self, role: str, row: Mapping[str, Any]) -> None:
        """Take a row of this seat's log."""
        if not self._rows:
            asyncio.get_running_loop().call_later(APART, self.flush)
        self._rows.append(row)

    def flush(self) -> None:
        """Send the rows that wait."""
        if self._rows:
            rows, self._rows = self._rows, []
            self.say(ROWS, json.dumps(rows).encode())


async def _play(orders: Mapping[str, Any], voice: Voice) -> None:
    from fedsim.config import validate
    from fedsim.outcome import to_bytes
    from fedsim.runtime._seat import play_hub, play_spoke

    file, role, token = validate(orders["file"], orders["file"]["name"], {}), orders["role"], orders["token"]
    plan, address = file.plan(), _follow_input()
    if role == plan.hub:
        report = await play_hub(
            file,
            token,
            watch=voice.watch,
            listening=lambda where: voice.say(ADDRESS, where.encode()),
            patience=START,
        )
    else:
        report = await play_spoke(file, role, token, await address, watch=voice.watch, patience=START)
    voice.flush()
    voice.say(REPORT, to_bytes(report, plan))


def _follow_input() -> asyncio.Future[str]:
    """The address that comes on standard input; when that ends, so does this process."""
    loop = asyncio.get_running_loop()
    address: asyncio.Future[str] = loop.create_future()

    def follow() -> None:
        if line := INPUT.readline():
            loop.call_soon_threadsafe(address.set_result, line.decode().strip())
            INPUT.readline()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    return address
