"""Transports made by wrapping another one: to record, delay, drop and reorder frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fedsim.errors import StallError, TransportBroken
from fedsim.message import RoleId
from fedsim.seeding import Rng
from fedsim.transport.base import Transport


class _Wrapped:
    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    async def send(self, dst: RoleId, frame: bytes) -> None:
        await self.inner.send(dst, frame)

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        return await self.inner.recv(within)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Record(_Wrapped):
    """Keeps every frame this seat sent, as ``(dst, frame)``, and received, as ``(src, frame)``."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.sent: list[tuple[RoleId, bytes]] = []
        self.received: list[tuple[RoleId, bytes]] = []

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """Note the frame, then send it."""
        self.sent.append((dst, frame))
        await self.inner.send(dst, frame)

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        """Receive a frame and note it."""
        delivery = await self.inner.recv(within)
        self.received.append(delivery)
        return delivery


class Delay(_Wrapped):
    """Lets ``seconds`` pass before each frame leaves."""

    def __init__(self, inner: Transport, seconds: float) -> None:
        super().__init__(inner)
        self.seconds = seconds

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """Wait, then send."""
        await asyncio.sleep(self.seconds)
        await self.inner.send(dst, frame)


class Drop(_Wrapped):
    """Loses each outgoing frame for which ``lose(dst, frame)`` says so."""

    def __init__(self, inner: Transport, lose: Callable[[RoleId, bytes], bool]) -> None:
        super().__init__(inner)
        self.lose = lose

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """Send, or lose."""
        if not self.lose(dst, frame):
            await self.inner.send(dst, frame)


class Reorder(_Wrapped):
    """Hands out the frames that have arrived in a random order."""

    def __init__(self, inner: Transport, rng: Rng) -> None:
        super().__init__(inner)
        self._draw = rng.numpy()
        self._arrived: list[tuple[RoleId, bytes]] = []

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        """Wait for at least one frame, then hand out any of those that are here."""
        if not self._arrived:
            self._arrived.append(await self.inner.recv(within))
        while (more := self._poll()) is not None:
            self._arrived.append(more)
        return self._arrived.pop(int(self._draw.integers(len(self._arrived))))

    def _poll(self) -> tuple[RoleId, bytes] | None:
        """Run the inner ``recv`` by hand up to its first wait: a frame if one is here, else None."""
        receiving = self.inner.recv()
        try:
            receiving.send(None)
        except StopIteration as arrived:
            delivery: tuple[RoleId, bytes] = arrived.value
            return delivery
        except (TransportBroken, StallError):
            if not self._arrived:
                raise
            return None  # what is here is handed out first; the next wait will say so again
        receiving.close()
        return None
