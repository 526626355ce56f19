"""Transports made by wrapping another one: to record, delay, drop and reorder frames, and to seal them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from fedsim.errors import ProtocolError, StallError, TransportBroken
from fedsim.message import RoleId
from fedsim.seeding import Rng
from fedsim.transport.base import Transport

SEAL = 16
"""Bytes of a seal."""


def _seal(frame: bytes) -> bytes:
    return hashlib.blake2b(frame, digest_size=SEAL).digest()


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


class Sealed(_Wrapped):
    """Puts a digest behind each frame, and refuses what arrives with another: what TLS does, where there is none."""

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """Send the frame and its seal."""
        await self.inner.send(dst, frame + _seal(frame))

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        """Receive a frame; ProtocolError, with who sent it, if it is not as it was sent."""
        src, block = await self.inner.recv(within)
        frame = block[:-SEAL]
        if len(block) < SEAL or block[-SEAL:] != _seal(frame):
            raise ProtocolError(f"a frame from {src} was altered on its way")
        return src, frame


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
