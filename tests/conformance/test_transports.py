"""Every transport keeps the contract of `fedsim.transport.base`; and the kit finds transports that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from fedsim.errors import ConformanceError, TransportClosed
from fedsim.message import RoleId
from fedsim.seeding import Rng
from fedsim.testing import check_transport
from fedsim.testing.transports import ROSTER, Make
from fedsim.transport._packets import PART
from fedsim.transport.base import Transport
from fedsim.transport.chaos import Chaos, Trouble
from fedsim.transport.grpc import Hub, Pass, Spoke, token_of
from fedsim.transport.memory import MemoryNetwork
from fedsim.transport.tls import Identity
from fedsim.transport.wrappers import Delay, Drop, Record, Reorder, Sealed, _Wrapped

Wrap = Callable[[Transport], Transport]


def over_memory(wrap: Wrap) -> Make:
    async def make(roster: Sequence[RoleId]) -> Mapping[RoleId, Transport]:
        network = MemoryNetwork(roster)
        return {role: wrap(network.transport(role)) for role in roster}

    return make


GOOD: dict[str, tuple[Wrap, bool]] = {
    "memory": (lambda inner: inner, True),
    "record": (Record, True),
    "delay": (lambda inner: Delay(inner, 0.0), True),
    "drop nothing": (lambda inner: Drop(inner, lambda dst, frame: False), True),
    "reorder": (lambda inner: Reorder(inner, Rng.root(1)), False),
    "reorder, wrapped": (lambda inner: Record(Reorder(inner, Rng.root(2))), False),
    "sealed": (Sealed, True),
    "nothing but late": (
        lambda inner: Chaos(inner, [Trouble("slow", 0), Trouble("partition", 3)], Rng.root(1), 0),
        True,
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_keeps_the_contract(name: str) -> None:
    wrap, ordered = GOOD[name]
    asyncio.run(check_transport(over_memory(wrap), ordered=ordered))


def over_grpc(identities: Mapping[RoleId, Identity]) -> Make:
    async def make(roster: Sequence[RoleId]) -> Mapping[RoleId, Transport]:
        hub, *others = roster
        listening = await Hub.listen(hub, roster, Pass("token", "digest"), identity=identities.get(hub))
        joining = [
            Spoke.connect(
                role, hub, listening.address, Pass(token_of("token", role), "digest"), 10, identities.get(role)
            )
            for role in others
        ]
        spokes = await asyncio.gather(*joining)
        return {hub: listening, **dict(zip(others, spokes, strict=True))}

    return make


@pytest.mark.parametrize("large", [PART, 2 * PART + 1])
def test_the_network_keeps_the_contract_in_frames_of_one_part_and_of_several(large: int) -> None:
    asyncio.run(check_transport(over_grpc({}), large=large))


def test_the_network_keeps_the_contract_when_it_is_encrypted() -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    from fedsim.transport.certificates import certify

    hub, *others = ROSTER
    asyncio.run(check_transport(over_grpc(certify(hub, others, ["127.0.0.1"], days=1)), large=2 * PART + 1))


class Twice(_Wrapped):
    """Sends every frame twice."""

    async def send(self, dst: RoleId, frame: bytes) -> None:
        await self.inner.send(dst, frame)
        await self.inner.send(dst, frame)


class TwiceOnce(_Wrapped):
    """Doubles one late frame, so that only counting finds it."""

    count = 0

    async def send(self, dst: RoleId, frame: bytes) -> None:
        await self.inner.send(dst, frame)
        self.count += 1
        if self.count == 300:
            await self.inner.send(dst, frame)


class Cuts(_Wrapped):
    """Carries the first MiB of a frame only."""

    async def send(self, dst: RoleId, frame: bytes) -> None:
        await self.inner.send(dst, frame[: 1 << 20])


class Anonymous(_Wrapped):
    """Says that everything comes from the hub."""

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        return "hub", (await self.inner.recv(within))[1]


class ForgetsItIsClosed(_Wrapped):
    """Takes frames after it was closed, and loses them."""

    closed = False

    async def send(self, dst: RoleId, frame: bytes) -> None:
        if not self.closed:
            await self.inner.send(dst, frame)

    async def aclose(self) -> None:
        self.closed = True
        await self.inner.aclose()


class ClosesOnce(_Wrapped):
    """Complains when it is closed again."""

    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise TransportClosed("closed already")
        self.closed = True
        await self.inner.aclose()


class NoticesNothing(_Wrapped):
    """Sends into the void when the peer is gone."""

    async def send(self, dst: RoleId, frame: bytes) -> None:
        try:
            await self.inner.send(dst, frame)
        except TransportClosed:
            raise
        except Exception:
            return


class NeverGivesUp(_Wrapped):
    """Waits for as long as it takes."""

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        return await self.inner.recv()


class Queues(_Wrapped):
    """Lets two tasks receive, one after the other."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self._turn = asyncio.Lock()

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        async with self._turn:
            return await self.inner.recv(within)


def lose_every_hundredth(inner: Transport) -> Transport:
    return Drop(inner, lambda dst, frame: frame.endswith(b"99"))


def lose_what_is_empty(inner: Transport) -> Transport:
    return Drop(inner, lambda dst, frame: not frame)


BAD: dict[str, tuple[Wrap, str]] = {
    "loses": (lose_every_hundredth, "600 frames|2 x 300 frames"),
    "loses empty frames": (lose_what_is_empty, "5 frames"),
    "doubles": (Twice, "lost, doubled or changed"),
    "doubles one": (TwiceOnce, "lost, doubled or changed|arrive as sent by"),
    "cuts": (Cuts, "lost, doubled or changed"),
    "reorders": (lambda inner: Reorder(inner, Rng.root(1)), "another order"),
    "names the wrong sender": (Anonymous, "sent by"),
    "sends after aclose": (ForgetsItIsClosed, "send after this side .* must raise TransportClosed; it succeeds"),
    "aclose is not idempotent": (ClosesOnce, "aclose for the second time"),
    "sends into the void": (NoticesNothing, "must raise TransportBroken; it hangs"),
    "lets two receive": (Queues, "must raise TransportBusy"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_kit_finds_a_transport_that(name: str) -> None:
    wrap, complaint = BAD[name]
    with pytest.raises(ConformanceError, match=complaint):
        asyncio.run(check_transport(over_memory(wrap), timeout=0.2))
