"""Packets of a stream: a head, and a frame behind it unless that is large and follows in parts; and queues of them."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from fedsim.errors import ProtocolError
from fedsim.message import RoleId
from fedsim.printable import replace_harmful

WHOLE = 1 << 18
"""Bytes of the largest frame that travels in one piece with its head."""
PART = 8 << 20
"""Bytes of a part of a larger frame."""
FRAME = 1 << 30
"""Bytes of the largest frame that is put together."""
AHEAD = 64 << 20
"""Bytes that may wait in a queue, more than one frame: beyond this the sender waits."""
STALLED = 300.0
"""Seconds that each part of a frame may take, on whatever line, while its sender computes."""
HEAD = struct.Struct("<BIH")  # what it is, number of parts that follow, bytes of the role's name
IS_FRAME, HAS_LEFT, IS_LOST = range(3)


class Queue:
    """Packets on their way to one peer."""

    def __init__(self) -> None:
        self._packets: deque[tuple[bytes, bytes]] = deque()
        self._size = 0
        self._filled, self._drained = asyncio.Event(), asyncio.Event()
        self.over = False

    async def put(self, head: bytes, frame: bytes = b"") -> bool:
        """Queue a packet once there is room; False if the peer is gone."""
        while self._size > AHEAD and not self.over:
            self._drained.clear()
            await self._drained.wait()
        self.put_now(head, frame)
        return not self.over

    def put_now(self, head: bytes, frame: bytes = b"") -> None:
        """Queue a packet whatever there is."""
        self._packets.append((head, frame))
        self._size += len(head) + len(frame)
        self._filled.set()

    async def drain(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write what comes, for ever."""
        while True:
            while self._packets:
                head, frame = self._packets[0]
                if len(frame) <= WHOLE:
                    await write(head + frame if frame else head)
                else:
                    await write(head)
                    for start in range(0, len(frame), PART):
                        await write(frame[start : start + PART])
                self._packets.popleft()
                self._size -= len(head) + len(frame)
                self._drained.set()
            self._filled.clear()
            await self._filled.wait()

    async def empty(self) -> None:
        """Wait until all is written, or the peer is gone."""
        while self._packets and not self.over:
            self._drained.clear()
            await self._drained.wait()

    def end(self) -> None:
        """The peer is gone: nobody waits for it any more."""
        self.over = True
        self._packets.clear()
        self._size = 0
        self._drained.set()


def head_of(what: int, role: RoleId, frame: bytes) -> bytes:
    """The head of a packet with this frame, or with the first of its parts behind it."""
    name = role.encode()
    parts = -(-len(frame) // PART) if len(frame) > WHOLE else 0
    return HEAD.pack(what, parts, len(name)) + name


async def unpacked(packet: bytes, read: Callable[[], Awaitable[Any]]) -> tuple[int, RoleId, bytes]:
    """What a packet is, the role it names, and its frame, for which the parts that follow are read.

    Raises:
        ProtocolError: it is not a packet, its frame is too large, or a part of it does not come.
    """
    if len(packet) < HEAD.size:
        raise ProtocolError(f"a packet of {len(packet)} bytes is shorter than its head")
    what, count, length = HEAD.unpack_from(packet)
    end = HEAD.size + length
    role = text(packet[HEAD.size : end])
    if not count:
        return what, role, packet[end:]
    if count * PART > FRAME + PART:
        raise ProtocolError(f"a frame in {count} parts; at most {FRAME} bytes are allowed")
    parts = [await _part(read) for _ in range(count)]
    return what, role, parts[0] if count == 1 else b"".join(parts)


async def _part(read: Callable[[], Awaitable[Any]]) -> bytes:
    part = await timely(read, STALLED, "a frame that has begun does not go on")
    if not isinstance(part, bytes):
        raise ProtocolError("the stream ends within a frame")
    return part


async def timely(read: Callable[[], Awaitable[Any]], seconds: float, otherwise: str) -> Any:
    """What is read.

    Raises:
        ProtocolError: nothing comes in that time; says what happens ``otherwise``.
    """
    reading = asyncio.ensure_future(read())
    try:
        for _ in range(2):  # a clock that has run out while this side computed says nothing
            await asyncio.wait((reading,), timeout=seconds / 2)
        if reading.done():
            return reading.result()
    finally:
        reading.cancel()
    raise ProtocolError(f"{otherwise} for {seconds:g} s")


def text(raw: Any) -> str:
    """Bytes that ought to be text, fit for a terminal; anything else is none that we know."""
    return replace_harmful(raw.decode(errors="replace")) if isinstance(raw, bytes) else ""
