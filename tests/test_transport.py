"""What the conformance kit does not say of the transports in memory: stalls at once, and what each wrapper does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fedsim.errors import StallError, TransportBroken, TransportClosed, TransportLate
from fedsim.message import RoleId
from fedsim.seeding import Rng
from fedsim.transport.base import Transport
from fedsim.transport.memory import MemoryNetwork
from fedsim.transport.wrappers import Delay, Drop, Record, Reorder

Play = Callable[[Transport, Transport], Awaitable[None]]


def between_two(play: Play) -> None:
    async def main() -> None:
        network = MemoryNetwork(["a", "b"])
        await asyncio.wait_for(play(network.transport("a"), network.transport("b")), 120)

    asyncio.run(main())


def test_when_all_wait_all_are_told_at_once() -> None:
    async def play(a: Transport, b: Transport) -> None:
        found = await asyncio.gather(a.recv(), b.recv(), return_exceptions=True)
        assert [type(error) for error in found] == [StallError, StallError]

    between_two(play)


def test_a_seat_that_still_computes_is_no_stall() -> None:
    async def play(a: Transport, b: Transport) -> None:
        waiting = asyncio.ensure_future(a.recv())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        await b.send("a", b"at last")
        assert await waiting == ("b", b"at last")

    between_two(play)


def test_a_frame_on_its_way_is_no_stall() -> None:
    async def play(a: Transport, b: Transport) -> None:
        async def answer() -> None:
            await b.send("a", (await b.recv())[1] + b"!")

        async def ask() -> tuple[RoleId, bytes]:
            await a.send("b", b"hello")
            return await a.recv()

        got, _ = await asyncio.gather(ask(), answer())
        assert got == ("b", b"hello!")

    between_two(play)


def test_closing_the_last_moving_seat_is_a_stall_for_the_rest() -> None:
    async def play(a: Transport, b: Transport) -> None:
        waiting = asyncio.gather(a.recv(), b.recv(), return_exceptions=True)
        await asyncio.sleep(0)
        await b.aclose()
        found = await waiting
        assert isinstance(found[0], StallError)

    between_two(play)


def test_a_stall_can_be_outlived() -> None:
    async def play(a: Transport, b: Transport) -> None:
        await asyncio.gather(a.recv(), b.recv(), return_exceptions=True)
        await b.send("a", b"after all")
        assert await a.recv() == ("b", b"after all")

    between_two(play)


def test_who_waits_for_a_time_only_gives_up_before_the_others() -> None:
    async def play(a: Transport, b: Transport) -> None:
        waiting = asyncio.ensure_future(b.recv())
        with pytest.raises(TransportLate, match=r"^nothing came to a within 3600 s$"):  # and the hour does not pass
            await a.recv(3600)
        await a.send("b", b"after all")
        assert await waiting == ("a", b"after all")

    between_two(play)


def test_unknown_and_closed_peers() -> None:
    async def play(a: Transport, b: Transport) -> None:
        with pytest.raises(TransportBroken, match="nobody is gone"):
            await a.send("nobody", b"")
        await b.aclose()
        with pytest.raises(TransportBroken, match="b is gone"):
            await a.send("b", b"")
        with pytest.raises(TransportClosed, match="b has closed"):
            await b.send("a", b"")

    between_two(play)


def test_record_notes_both_directions() -> None:
    async def play(a: Transport, b: Transport) -> None:
        recorded = Record(a)
        await recorded.send("b", b"one")
        await b.send("a", b"two")
        await recorded.recv()
        assert (recorded.sent, recorded.received) == ([("b", b"one")], [("b", b"two")])

    between_two(play)


def test_drop_loses_what_it_is_told_to_lose() -> None:
    async def play(a: Transport, b: Transport) -> None:
        lossy = Drop(a, lambda dst, frame: frame.startswith(b"x"))
        for frame in (b"x1", b"y", b"x2", b"z"):
            await lossy.send("b", frame)
        assert [(await b.recv())[1] for _ in range(2)] == [b"y", b"z"]

    between_two(play)


def test_delay_waits_before_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def play(a: Transport, b: Transport) -> None:
        monkeypatch.setattr("fedsim.transport.wrappers.asyncio.sleep", sleep)
        await Delay(a, 0.25).send("b", b"late")
        monkeypatch.undo()
        assert await b.recv() == ("a", b"late")

    between_two(play)
    assert waits == [0.25]


def test_reorder_changes_the_order_the_same_way_every_time_and_loses_nothing() -> None:
    frames = [bytes([i]) for i in range(20)]

    async def received(seed: int) -> list[bytes]:
        network = MemoryNetwork(["a", "b"])
        shuffled = Reorder(network.transport("b"), Rng.root(seed))
        for frame in frames:
            await network.transport("a").send("b", frame)
        return [(await shuffled.recv())[1] for _ in frames]

    one, again, other = (asyncio.run(received(seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert sorted(one) == sorted(other) == frames
    assert one != frames


def test_reorder_keeps_what_has_arrived_when_the_way_breaks() -> None:
    """A network may tell of a broken way while frames are still in hand."""

    class Breaks:
        def __init__(self) -> None:
            self.left = [("b", b"1"), ("b", b"2")]

        async def send(self, dst: RoleId, frame: bytes) -> None:
            raise NotImplementedError

        async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
            if not self.left:
                raise TransportBroken("everyone is gone")
            return self.left.pop()

        async def aclose(self) -> None:
            raise NotImplementedError

    async def main() -> list[bytes]:
        shuffled = Reorder(Breaks(), Rng.root(0))
        got = [(await shuffled.recv())[1] for _ in range(2)]
        with pytest.raises(TransportBroken):
            await shuffled.recv()
        return got

    assert sorted(asyncio.run(main())) == [b"1", b"2"]
