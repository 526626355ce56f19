"""Every seat in this process, on one event loop; frames are encoded and decoded all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, TypeVar

from fedsim.config import Runtime, ScenarioFile
from fedsim.errors import StallError, TransportError
from fedsim.message import RoleId
from fedsim.net import Net, Watch
from fedsim.outcome import SeatReport
from fedsim.plan import Plan, Seat, Secrets
from fedsim.play import ids_key, play
from fedsim.seeding import Rng
from fedsim.transport.base import Transport
from fedsim.transport.memory import MemoryNetwork

T = TypeVar("T")


class Local(Runtime):
    """All seats in one process: for a laptop, for tests, and to debug."""

    in_process: ClassVar[bool] = True

    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """See `Runtime.run`."""
        return asyncio.run(play_all(file, memory(file.plan()), watch))


def memory(plan: Plan) -> dict[RoleId, Transport]:
    """A transport for each seat of a plan, all in this process."""
    network = MemoryNetwork(plan.roster)
    return {role: network.transport(role) for role in plan.roster}


async def play_all(
    file: ScenarioFile,
    transports: Mapping[RoleId, Transport],
    watch: Watch = lambda role, row: None,
    plan: Plan | None = None,
) -> list[SeatReport]:
    """Play every seat over the given transports; the first failure ends all, stalls are told as one.

    Raises:
        StallError: names who waits for what.
    """
    return await _all(transports, lambda role, transport: play(file, role, transport, plan=plan, watch=watch))


async def meet_all(file: ScenarioFile, plan: Plan) -> dict[RoleId, Seat]:
    """Every seat of a plan, ready to be built: those that have something to settle first have met in this process.

    Raises:
        InputError: what a seat brings cannot be used.
    """

    async def one(role: RoleId, transport: Transport) -> Seat:
        seat, net = plan.seats[role], Net(role, plan.hub, plan.roster, transport)
        return seat if seat.meet is None else await seat.meet(net, ids_key(Secrets(), Rng.root(file.seed)))

    return dict(zip(plan.roster, await _all(memory(plan), one), strict=True))


async def _all(
    transports: Mapping[RoleId, Transport], do: Callable[[RoleId, Transport], Coroutine[Any, Any, T]]
) -> list[T]:
    """What every seat does, at the same time, until all have done or one has failed."""

    async def one(role: RoleId) -> T:
        try:
            return await do(role, transports[role])
        finally:
            await transports[role].aclose()

    tasks = {role: asyncio.create_task(one(role), name=role) for role in transports}
    try:
        await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
        failed = [error for task in tasks.values() if task.done() and (error := task.exception())]
        causes = [error for error in failed if not isinstance(error, StallError)]
        if causes:
            raise min(causes, key=lambda error: isinstance(error, TransportError))  # others have only lost a peer
        if failed:
            await asyncio.wait(tasks.values())
            raise StallError(
                "the run stalled: " + "; ".join(str(t.exception()) for t in tasks.values() if t.exception())
            )
        return [task.result() for task in tasks.values()]
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
