"""A word to people when a seat waits long for a peer: transports notice one that is gone, and nobody one that is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fedsim.mailbox import Key
from fedsim.net import Net


@asynccontextmanager
async def reminding(net: Net, seconds: float | None, advice: str = "") -> AsyncIterator[None]:
    """Inside, people are told when the seat has waited for one message for so many seconds, then for twice as many, and so on.

    Args:
        net: of the seat.
        seconds: until the first word, and at most a quarter more; None: nothing is ever said.
        advice: what could be done, at the end of the line.
    """
    if seconds is None:
        yield
        return
    watcher = asyncio.create_task(_watch(net, seconds, advice))
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _watch(net: Net, seconds: float, advice: str) -> None:
    seen: Key | None = None
    since, due, now = 0.0, seconds, asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(seconds / 4)
        if net.awaits is not seen:
            seen, since, due = net.awaits, now(), seconds
        elif seen is not None and (waited := now() - since) >= due:
            due *= 2
            why = f"{seen[0]} is connected: it computes, waits itself, or is stuck"
            net.show({"notice": f"{net.waits(seen)}, for {waited:.0f} s now; {why}{advice}"})
