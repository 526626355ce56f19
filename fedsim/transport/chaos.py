"""What goes wrong on the way of a seat's frames, by plan: to test that a result is the calm one, or an error with its cause."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from fedsim.message import RoleId
from fedsim.seeding import Rng
from fedsim.transport.base import Transport

Fault = Literal[
    "delay", "slow", "partition", "reorder", "duplicate", "replay", "drop", "half-open", "corrupt", "truncate"
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
HARMLESS: frozenset[Fault] = frozenset({"delay", "slow", "partition", "reorder"})
"""Faults that must not show: frames come late, or in another order."""


@dataclass(frozen=True)
class Trouble:
    """What goes wrong, and with which of the frames that a seat sends; what is slow or half open stays so."""

    fault: Fault
    at: int


class Chaos:
    """A transport on whose outgoing frames troubles fall; what is drawn follows from ``rng``.

    Attributes:
        befell: the troubles that came to pass.
    """

    def __init__(self, inner: Transport, troubles: Sequence[Trouble], rng: Rng, pause: float = 0.002) -> None:
        """Put it around a transport; delays are up to ``pause`` seconds, a partition lasts for five of them."""
        self.inner, self.befell = inner, list[Trouble]()
        self._troubles, self._draw, self._pause = tuple(troubles), rng.numpy(), pause
        self._sent: list[tuple[RoleId, bytes]] = []
        self._held: list[tuple[RoleId, bytes]] = []

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """See `Transport.send`."""
        number = len(self._sent)
        self._sent.append((dst, frame))
        frames = [(dst, frame)]
        for trouble in self._troubles:
            if trouble.at == number or (trouble.fault in ("slow", "half-open") and trouble.at < number):
                self.befell.append(trouble)
                frames = await self._fall(trouble.fault, frames)
        for to, each in frames:
            await self.inner.send(to, each)
        if frames:
            await self._release()

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        """See `Transport.recv`."""
        await self._release()
        return await self.inner.recv(within)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._release()
        await self.inner.aclose()

    async def _fall(self, fault: Fault, frames: list[tuple[RoleId, bytes]]) -> list[tuple[RoleId, bytes]]:
        """What becomes of the frames that were about to leave."""
        if fault in ("delay", "slow"):
            await asyncio.sleep(self._pause * float(self._draw.random()))
        elif fault == "partition":
            await asyncio.sleep(5 * self._pause)
        elif fault == "reorder":
            self._held += frames
            return []
        elif fault in ("drop", "half-open"):
            return []
        elif fault == "duplicate":
            return frames * 2
        elif fault == "replay":
            return [*frames, self._sent[int(self._draw.integers(len(self._sent)))]]
        elif frames:
            (dst, frame), *others = frames
            spoil = self._flipped if fault == "corrupt" else self._cut
            return [(dst, spoil(frame)), *others]
        return frames

    def _flipped(self, frame: bytes) -> bytes:
        block, bit = bytearray(frame), int(self._draw.integers(8 * len(frame)))
        block[bit // 8] ^= 1 << bit % 8
        return bytes(block)

    def _cut(self, frame: bytes) -> bytes:
        return frame[: int(self._draw.integers(len(frame)))]

    async def _release(self) -> None:
        """Send what was held back, after what came later."""
        held, self._held = self._held, []
        for dst, frame in held:
            await self.inner.send(dst, frame)
