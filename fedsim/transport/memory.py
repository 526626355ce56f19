"""Frames between seats of one process: queues, and the certainty that nothing moves any more when nobody can."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from fedsim.errors import StallError, TransportBroken, TransportBusy, TransportClosed, TransportLate
from fedsim.message import RoleId

Delivery = tuple[RoleId, bytes]


class MemoryNetwork:
    """All seats of one event loop. A stall (every open seat waits, every queue is empty) is noticed at once, not by a timer."""

    def __init__(self, roster: Iterable[RoleId]) -> None:
        self.queues: dict[RoleId, deque[Delivery]] = {role: deque() for role in roster}
        self.waiting: dict[RoleId, asyncio.Future[None]] = {}
        self.patience: dict[RoleId, float] = {}
        self.closed: set[RoleId] = set()

    def transport(self, role: RoleId) -> MemoryTransport:
        """The transport of one seat."""
        return MemoryTransport(self, role)

    def watch_for_stall(self) -> None:
        """If every open seat waits, look again after all that can still run has run, and end the wait if nothing did."""
        if self._everyone_waits():
            asyncio.get_running_loop().call_soon(self._fail_if_stalled)

    def _everyone_waits(self) -> bool:
        return len(self.waiting) + len(self.closed) >= len(self.queues) and not any(
            future.done() for future in self.waiting.values()
        )

    def _fail_if_stalled(self) -> None:
        if not self._everyone_waits():
            return
        if self.patience:  # nothing happens until the first of those who will not wait for ever gives up
            role = min(self.patience, key=self.patience.__getitem__)
            self.waiting[role].set_exception(TransportLate(f"nothing came to {role} within {self.patience[role]:g} s"))
            return
        for future in self.waiting.values():
            future.set_exception(StallError("every seat waits"))


class MemoryTransport:
    """One seat's end of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, role: RoleId) -> None:
        self._network = network
        self._role = role

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """See `Transport.send`."""
        network = self._network
        if self._role in network.closed:
            raise TransportClosed(f"{self._role} has closed its transport")
        if dst not in network.queues or dst in network.closed:
            raise TransportBroken(f"{dst} is gone")
        network.queues[dst].append((self._role, frame))
        waiter = network.waiting.get(dst)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def recv(self, within: float | None = None) -> Delivery:
        """See `Transport.recv`."""
        network, role = self._network, self._role
        if role in network.waiting:
            raise TransportBusy(f"{role} is receiving already")
        while True:
            if role in network.closed:
                network.watch_for_stall()  # the last one to move may have been this seat
                raise TransportClosed(f"{role} has closed its transport")
            if network.queues[role]:
                return network.queues[role].popleft()
            network.waiting[role] = asyncio.get_running_loop().create_future()
            if within is not None:
                network.patience[role] = within
            network.watch_for_stall()
            try:
                await network.waiting[role]
            finally:
                del network.waiting[role]
                network.patience.pop(role, None)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        network = self._network
        network.closed.add(self._role)
        waiter = network.waiting.get(self._role)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        network.watch_for_stall()
