"""A small federation of which one seat sends other messages than it ought to, in this process and over real streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from small import SMALL

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.errors import TransportError
from fedsim.message import Message, RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.play import play
from fedsim.runtime.local import memory, play_all
from fedsim.transport.base import Transport
from fedsim.transport.grpc import Hub, Pass, Spoke, token_of
from fedsim.transport.wrappers import _Wrapped
from fedsim.wire import decode, encode

Change = Callable[[Any], Message]
"""From the message that a seat would have sent to the one that leaves."""
Way = Literal["memory", "stream"]
PATIENCE = 120.0


class Meddling(_Wrapped):
    """A way out on which every message may become another."""

    def __init__(self, inner: Transport, change: Change) -> None:
        super().__init__(inner)
        self._change = change

    async def send(self, dst: RoleId, frame: bytes) -> None:
        envelope = decode(frame)
        await self.inner.send(dst, encode(envelope._replace(message=self._change(envelope.message))))


def made(exchange: str = "split", **more: Any) -> ScenarioFile:
    """Three seats, 12 training steps of 10 rows, embeddings of width 4."""
    scenario = {**SMALL["leakage"]["scenario"], "exchange": exchange, "window": None, **more}
    return config.validate({"name": "m", "scenario": scenario}, "m", {})


async def streams(file: ScenarioFile) -> dict[RoleId, Hub | Spoke]:
    """A transport for each seat, over the network of this machine."""
    plan, token = file.plan(), "the token of the run"
    hub = await Hub.listen(plan.hub, plan.roster, Pass(token, file.digest()))
    ways: dict[RoleId, Hub | Spoke] = {plan.hub: hub}
    for role in plan.roster:
        if role != plan.hub:
            shows = Pass(token_of(token, role), file.digest())
            ways[role] = await Spoke.connect(role, plan.hub, hub.address, shows, PATIENCE)
    return ways


def played(
    file: ScenarioFile, who: RoleId, change: Change, way: Way = "memory", watch: Watch = lambda role, row: None
) -> list[SeatReport]:
    """What seats report where ``who`` sends what ``change`` makes of its messages; over streams, why the run ends."""

    async def together() -> list[SeatReport]:
        ways = memory(file.plan())
        return await play_all(file, {**ways, who: Meddling(ways[who], change)}, watch)

    async def apart() -> list[SeatReport]:
        ways = await streams(file)

        async def one(role: RoleId) -> SeatReport:
            try:
                return await play(file, role, Meddling(ways[role], change) if role == who else ways[role], watch=watch)
            except Exception:
                await ways[role].abort()
                raise

        found = await asyncio.gather(*map(one, ways), return_exceptions=True)
        raise next(error for error in found if isinstance(error, Exception) and not isinstance(error, TransportError))

    return asyncio.run(asyncio.wait_for(together() if way == "memory" else apart(), PATIENCE))
