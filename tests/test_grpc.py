"""The network transport beyond the contract: who is let in, what a lost or frozen peer looks like, what may pile up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from listening import addresses

from fedsim.errors import ProtocolError, TransportBroken
from fedsim.transport import _packets
from fedsim.transport.grpc import Hub, Pass, Spoke, token_of

PASS = Pass("the token", "d" * 64)
ROSTER = ("server", "north", "east")
PATIENCE = 120.0

PEER = """
import asyncio, sys
from fedsim.transport.grpc import Pass, Spoke

async def main(role, address):
    spoke = await Spoke.connect(role, "server", address, Pass(sys.argv[3], "d" * 64), 30)
    while True:
        _, frame = await spoke.recv()
        if frame == b"compute":
            sum(range(3 * 10**8))  # one call, some seconds, which never lets go of Python's lock
        await spoke.send("server", frame)

asyncio.run(main(*sys.argv[1:3]))
"""


def of(role: str) -> Pass:
    return Pass(token_of(PASS.token, role), PASS.digest)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * PATIENCE))


async def connected() -> tuple[Hub, Spoke, Spoke]:
    hub = await Hub.listen("server", ROSTER, PASS)
    north, east = [await Spoke.connect(role, "server", hub.address, of(role), PATIENCE) for role in ROSTER[1:]]
    await hub.joined(PATIENCE)
    return hub, north, east


async def close(*seats: Hub | Spoke) -> None:
    for seat in seats:
        await seat.aclose()


@pytest.mark.parametrize(
    ("role", "shows", "why"),
    [
        ("north", Pass("another", PASS.digest), "refuses north: wrong token"),
        ("north", Pass("", PASS.digest), "refuses north: wrong token"),
        ("north", PASS, "refuses north: wrong token"),
        ("north", of("east"), "refuses north: wrong token: not the one of this seat in this run"),
        ("north", Pass(of("north").token, "e" * 64), "it plays scenario eeeeeeee, not dddddddd: not the same file"),
        ("west", of("west"), "no seat 'west' to join; allowed: north, east"),
        ("server", of("server"), "no seat 'server' to join"),
        ("nörth", of("nörth"), "no seat 'nörth' to join"),
        ("east", of("east"), "seat east is taken: another process has joined as it"),
    ],
)
def test_who_is_refused_is_told_why_and_harms_nobody(role: str, shows: Pass, why: str) -> None:
    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, PASS)
        east = await Spoke.connect("east", "server", hub.address, of("east"), PATIENCE)
        with pytest.raises(ProtocolError, match=why):
            await Spoke.connect(role, "server", hub.address, shows, PATIENCE)
        await east.send("server", b"still here")
        assert await hub.recv() == ("east", b"still here")
        await close(east, hub)

    run(test())


def test_a_seat_that_has_left_cannot_be_taken_by_another_process() -> None:
    async def test() -> None:
        hub, north, east = await connected()
        await north.aclose()
        with pytest.raises(ProtocolError, match="seat north is taken"):
            await Spoke.connect("north", "server", hub.address, of("north"), PATIENCE)
        await close(east, hub)

    run(test())


def test_a_process_that_joins_again_ends_its_earlier_connection_and_waits_for_the_next_hub() -> None:
    def again(process: str) -> Pass:
        return Pass(of("north").token, PASS.digest, process=process)

    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, PASS)
        north = await Spoke.connect("north", "server", hub.address, again("one"), PATIENCE)
        east = await Spoke.connect("east", "server", hub.address, of("east"), PATIENCE)
        with pytest.raises(ProtocolError, match="seat north is taken: another process"):
            await Spoke.connect("north", "server", hub.address, again("two"), PATIENCE)
        await north.send("server", b"still here")
        assert await hub.recv() == ("north", b"still here")

        joining = asyncio.create_task(Spoke.connect("north", "server", hub.address, again("one"), PATIENCE))
        for seat in (hub, east):
            with pytest.raises(TransportBroken, match="north is gone: its connection broke"):
                await seat.recv(PATIENCE)
        assert not joining.done()
        for seat in (north, east, hub):
            await seat.abort()
        next_hub = await Hub.listen("server", ROSTER, PASS, hub.address)
        north = await joining
        await north.send("server", b"here again")
        assert await next_hub.recv() == ("north", b"here again")
        await close(north, next_hub)

    run(test())


def test_nobody_waits_for_ever_for_a_connection() -> None:
    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, PASS)
        north = await Spoke.connect("north", "server", hub.address, of("north"), PATIENCE)
        with pytest.raises(TransportBroken, match=r"east did not connect within 0\.1 s"):
            await hub.joined(0.1)
        with pytest.raises(TransportBroken, match="cannot listen at"):
            await Hub.listen("server", ROSTER, PASS, hub.address)
        await close(north, hub)
        with pytest.raises(TransportBroken, match=r"server does not answer at .* within 0\.2 s"):
            await Spoke.connect("east", "server", hub.address, of("east"), 0.2)

    run(test())


def test_a_seat_may_start_before_the_hub_listens() -> None:
    async def test() -> None:
        first = await Hub.listen("server", ROSTER, PASS)
        await first.aclose()
        joining = asyncio.create_task(Spoke.connect("north", "server", first.address, of("north"), PATIENCE))
        await asyncio.sleep(0)
        hub = await Hub.listen("server", ROSTER, PASS, first.address)
        north = await joining
        await close(north, hub)

    run(test())


def test_it_listens_on_loopback_unless_another_address_is_asked_for() -> None:
    async def test() -> None:
        before = addresses([os.getpid()])
        hub = await Hub.listen("server", ROSTER, PASS)
        assert addresses([os.getpid()]) - before <= {"127.0.0.1"}
        assert hub.address.startswith("127.0.0.1:")
        await hub.aclose()

    run(test())


@pytest.mark.parametrize(
    "packet", [b"", b"short", _packets.head_of(1, "east", b""), _packets.head_of(0, "north", b"x") + b"x"]
)
def test_what_is_no_packet_ends_the_stream_of_its_sender(packet: bytes) -> None:
    async def test() -> None:
        hub, north, east = await connected()
        await north._call.write(packet)
        with pytest.raises(TransportBroken, match="north broke the protocol: a packet of"):
            await hub.recv()
        with pytest.raises(TransportBroken, match="north broke the protocol"):
            await east.recv()
        await north.abort()
        await close(east, hub)

    run(test())


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    async def test() -> None:
        hub, north, east = await connected()
        await north._call.write(_packets.HEAD.pack(0, 2**31, 6) + b"server")
        with pytest.raises(TransportBroken, match=r"a frame in 2147483648 parts; at most \d+ bytes are allowed"):
            await hub.recv()
        await north.abort()
        await close(east, hub)

    run(test())


def test_the_hub_names_the_sender_of_what_it_relays() -> None:
    async def test() -> None:
        hub, north, east = await connected()
        await north.send("east", b"from north")
        assert await east.recv() == ("north", b"from north")
        await close(north, east, hub)

    run(test())


def test_a_fast_sender_waits_for_a_slow_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, frame, count = 1 << 20, bytes(1 << 18), 200
    monkeypatch.setattr(_packets, "AHEAD", ahead)

    async def flood(north: Spoke, to: str) -> None:
        for _ in range(count):
            await north.send(to, frame)
            assert north._queue._size <= ahead + 2 * len(frame)

    async def take(seat: Hub | Spoke, hub: Hub) -> None:
        for _ in range(count):
            assert await seat.recv() == ("north", frame)
            assert seat._size <= ahead + len(frame)
            assert hub._queues["east"]._size <= ahead + 2 * len(frame)

    async def test() -> None:
        hub, north, east = await connected()
        await asyncio.gather(flood(north, "server"), flood(north, "east"), take(hub, hub), take(east, hub))
        await close(north, east, hub)

    run(test())


def test_an_abort_is_a_loss_and_the_others_hear_of_it() -> None:
    async def test() -> None:
        hub, north, east = await connected()
        await north.send("server", b"last words")
        assert await hub.recv() == ("north", b"last words")
        await north.abort()
        for seat in (hub, east):
            with pytest.raises(TransportBroken, match="north is gone: its connection broke"):
                await seat.recv()
        with pytest.raises(TransportBroken, match="north is gone"):
            await hub.send("north", b"anybody there?")
        await hub.abort()
        with pytest.raises(TransportBroken, match="north is gone"):
            await east.recv()
        await east.aclose()

    run(test())


def test_why_a_seat_gives_up_is_told_to_all() -> None:
    async def test() -> None:
        hub, north, east = await connected()
        await north.abort("it failed with DataError")
        for seat in (hub, east):
            with pytest.raises(TransportBroken, match="north has given up: it failed with DataError"):
                await seat.recv()
        await close(east, hub)

    run(test())


def test_the_hub_stays_until_it_is_deserted() -> None:
    async def test() -> None:
        hub, north, east = await connected()
        staying = asyncio.create_task(hub.deserted())
        await north.send("east", b"by way of the hub")
        assert await east.recv() == ("north", b"by way of the hub")
        await north.aclose()
        assert not staying.done()
        await east.aclose()
        await staying
        await hub.aclose()

    run(test())


@contextmanager
def peer(role: str, hub: Hub) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", PEER, role, hub.address, of(role).token])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def alone(role: str) -> Hub:
    return await Hub.listen("server", ("server", role), PASS)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_peer_that_dies_or_freezes_is_noticed(how: signal.Signals) -> None:
    async def test() -> None:
        hub = await alone("north")
        with peer("north", hub) as process:
            await hub.joined(PATIENCE)
            await hub.send("north", b"hello")
            assert await hub.recv() == ("north", b"hello")
            process.send_signal(how)
            with pytest.raises(TransportBroken, match="north is gone: its connection broke"):
                await hub.recv()
        await hub.aclose()

    run(test())


def test_a_peer_that_computes_and_holds_pythons_lock_is_not_dropped() -> None:
    async def test() -> None:
        hub = await alone("north")
        with peer("north", hub):
            await hub.joined(PATIENCE)
            await hub.send("north", b"compute")
            assert await hub.recv() == ("north", b"compute")
        await hub.abort()

    run(test())
