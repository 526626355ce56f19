"""What the hub's end of its streams and the other ends have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque

from fedsim.errors import TransportBroken, TransportBusy, TransportClosed, TransportLate
from fedsim.message import RoleId
from fedsim.transport import _packets
from fedsim.transport._packets import IS_FRAME, Queue, head_of


class End(ABC):
    """An end at a seat: what has arrived, who is gone, and why."""

    def __init__(self, role: RoleId) -> None:
        self._role = role
        self._inbox: deque[tuple[RoleId, bytes]] = deque()
        self._size = 0
        self._room = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._gone: dict[RoleId, str] = {}
        self._lost: RoleId | None = None

    @abstractmethod
    def _way(self, dst: RoleId) -> Queue: ...

    @abstractmethod
    def _deserted(self) -> bool: ...

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """See `Transport.send`; waits while too much is on its way to ``dst``."""
        if self._closed:
            raise TransportClosed(f"{self._role} has closed its transport")
        if dst not in self._gone and await self._way(dst).put(head_of(IS_FRAME, self._label(dst), frame), frame):
            return
        raise TransportBroken(f"{dst} {self._gone.get(dst, 'is gone')}")

    @abstractmethod
    def _label(self, dst: RoleId) -> RoleId: ...

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        """See `Transport.recv`; a peer that is lost without having closed ends the wait, too."""
        if self._waiter is not None:
            raise TransportBusy(f"{self._role} is receiving already")
        while True:
            if self._closed:
                raise TransportClosed(f"{self._role} has closed its transport")
            if self._inbox:
                delivery = self._inbox.popleft()
                self._size -= len(delivery[1])
                self._room.set()
                return delivery
            if self._lost is not None:
                raise TransportBroken(f"{self._lost} {self._gone[self._lost]}")
            if self._deserted():
                raise TransportBroken("; ".join(f"{role} {reason}" for role, reason in self._gone.items()))
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(within):
                    await self._waiter
            except TimeoutError as late:
                raise TransportLate(f"nothing came to {self._role} within {within:g} s") from late
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _deliver(self, src: RoleId, frame: bytes) -> None:
        """Put a frame into the inbox once there is room; a closed seat throws it away."""
        while self._size > _packets.AHEAD and not self._closed:
            self._room.clear()
            await self._room.wait()
        if not self._closed:
            self._inbox.append((src, frame))
            self._size += len(frame)
            self._wake()

    def _close(self) -> bool:
        """Mark this side as closed; False if it was."""
        before, self._closed = self._closed, True
        self._room.set()
        self._wake()
        return not before

    def _miss(self, role: RoleId, lost: bool, reason: str) -> None:
        """Note that a seat is gone."""
        self._gone.setdefault(role, reason)
        if lost and self._lost is None:
            self._lost = role
        self._wake()
