"""The contract of a transport, as `fedsim.transport.base.Transport` states it, on any implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from fedsim.errors import (
    ConformanceError,
    FedsimError,
    StallError,
    TransportBroken,
    TransportBusy,
    TransportClosed,
    TransportLate,
)
from fedsim.message import RoleId
from fedsim.testing.expect import expect
from fedsim.transport.base import Transport

T = TypeVar("T")
Seats = Mapping[RoleId, Transport]
Make = Callable[[Sequence[RoleId]], Awaitable[Seats]]
HUB, ONE, TWO = ROSTER = ("hub", "one", "two")
RETRY_SECONDS = 0.01


@dataclass(frozen=True)
class _Terms:
    """How a transport is checked: see `check_transport`."""

    make: Make
    ordered: bool
    timeout: float
    large: int
    many: int


async def check_transport(
    make: Make, *, ordered: bool = True, timeout: float = 10.0, large: int = 6 << 20, many: int = 300
) -> None:
    """Check the transports that ``make`` connects; each part of the contract gets a fresh set of them.

    Nothing is waited for but frames: a transport that is right is checked as fast as it carries them.

    Args:
        make: connects a transport for each name of a roster, whose first is the hub, and returns them by name.
        ordered: whether frames of one sender to one receiver must keep their order.
        timeout: seconds after which a frame counts as lost, or a call as hanging.
        large: bytes of the largest frame tried.
        many: frames a pair exchanges in the test against loss.

    Raises:
        ConformanceError: says which part of the contract is broken.
    """
    terms = _Terms(make, ordered, timeout, large, many)
    for check in (_delivers, _sizes, _loses_nothing, _refuses_two):
        await check(terms)
    for check in (_gives_up, _closes, _ends_a_wait, _breaks, _flushes, _notices_the_end):
        await check(terms)


@asynccontextmanager
async def _connected(terms: _Terms) -> AsyncIterator[Seats]:
    transports = await _within(terms.make(ROSTER), terms, "connecting")
    expect(set(transports) == set(ROSTER), f"transport: connected {sorted(transports)}, asked for {sorted(ROSTER)}")
    try:
        yield transports
    except BaseException:
        for transport in transports.values():
            with suppress(Exception):  # what was found already matters more
                await asyncio.wait_for(transport.aclose(), terms.timeout)
        raise
    for transport in transports.values():
        await _within(transport.aclose(), terms, "aclose")


@asynccontextmanager
async def _receiving(*transports: Transport) -> AsyncIterator[list[asyncio.Task[tuple[RoleId, bytes]]]]:
    """Tasks that wait in ``recv``; at the end they are over, whatever happened."""
    tasks = [asyncio.ensure_future(transport.recv()) for transport in transports]
    await asyncio.sleep(0)  # lets them reach their wait; no time passes
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _within(call: Awaitable[T], terms: _Terms, what: str) -> T:
    """The result of a call that must succeed in time."""
    try:
        return await asyncio.wait_for(call, terms.timeout)
    except TimeoutError:
        raise ConformanceError(f"transport: {what}: nothing within {terms.timeout} s") from None
    except FedsimError as error:
        if isinstance(error, ConformanceError):
            raise
        raise ConformanceError(f"transport: {what}: raised {type(error).__name__}: {error}") from error


async def _raises(call: Awaitable[object], allowed: tuple[type[Exception], ...], terms: _Terms, what: str) -> None:
    """Check that a call fails in time, and as the contract says."""
    names = " or ".join(each.__name__ for each in allowed)
    try:
        result = await asyncio.wait_for(call, terms.timeout)
    except allowed:
        return
    except TimeoutError:
        found = f"hangs for {terms.timeout} s"
    except Exception as error:
        found = f"raises {type(error).__name__}: {error}"
    else:
        found = "succeeds" if result is None else f"returns {result!r:.80}"
    raise ConformanceError(f"transport: {what} must raise {names}; it {found}")


async def _carry(terms: _Terms, seats: Seats, frm: RoleId, to: RoleId, frames: Sequence[bytes]) -> None:
    """Send frames one way while the other side receives them, then compare."""

    async def send_all() -> None:
        for frame in frames:
            await seats[frm].send(to, frame)

    async def receive_all() -> list[tuple[RoleId, bytes]]:
        return [await seats[to].recv() for _ in frames]

    what = f"{len(frames)} frames, {sum(map(len, frames))} bytes, {frm} -> {to}"
    _, got = await _within(_together(send_all(), receive_all()), terms, what)
    _check_frames(frames, [frame for _, frame in got], terms.ordered, what)
    wrong = {sender for sender, _ in got} - {frm}
    expect(not wrong, f"transport: {what}: arrive as sent by {sorted(wrong)}")


async def _together(sending: Awaitable[None], receiving: Awaitable[T]) -> tuple[None, T]:
    return await asyncio.gather(sending, receiving)


def _check_frames(sent: Sequence[bytes], got: Sequence[bytes], ordered: bool, what: str) -> None:
    kept = list(sent) == list(got) if ordered else sorted(sent) == sorted(got)
    if kept:
        return
    missing = sum(frame not in set(got) for frame in sent)
    changed = sum(frame not in set(sent) for frame in got)
    if missing or changed or sorted(sent) != sorted(got):
        expect(False, f"transport: {what}: frames lost, doubled or changed ({missing} missing, {changed} never sent)")
    expect(False, f"transport: {what}: frames of one sender arrive in another order")


async def _delivers(terms: _Terms) -> None:
    """Every pair, both directions; a frame arrives whole and with its sender's name."""
    async with _connected(terms) as seats:
        for frm in ROSTER:
            for to in ROSTER:
                if frm != to:
                    frames = [f"{frm} to {to}, {i}".encode() for i in range(3)]
                    await _carry(terms, seats, frm, to, frames)


async def _sizes(terms: _Terms) -> None:
    """An empty frame, every byte value, and frames of some MiB."""
    frames = [b"", bytes(range(256)), bytes(1 << 16), b"\x01" * terms.large, b"end"]
    async with _connected(terms) as seats:
        await _carry(terms, seats, ONE, HUB, frames)
        await _carry(terms, seats, HUB, ONE, frames)


async def _loses_nothing(terms: _Terms) -> None:
    """Many frames of two senders at the same time; each arrives once."""
    frames = {frm: [f"{frm} {i}".encode() for i in range(terms.many)] for frm in (ONE, TWO)}

    async def send_all(frm: RoleId, transport: Transport) -> None:
        for frame in frames[frm]:
            await transport.send(HUB, frame)

    async def sending(seats: Seats) -> None:
        await asyncio.gather(*(send_all(frm, seats[frm]) for frm in frames))

    async def receive_all(transport: Transport) -> list[tuple[RoleId, bytes]]:
        return [await transport.recv() for _ in range(2 * terms.many)]

    what = f"2 x {terms.many} frames at the same time"
    async with _connected(terms) as seats:
        _, got = await _within(_together(sending(seats), receive_all(seats[HUB])), terms, what)
        for frm, sent in frames.items():
            _check_frames(sent, [frame for sender, frame in got if sender == frm], terms.ordered, what)
        for frm in frames:  # what would come now if a frame had been doubled
            await _carry(terms, seats, frm, HUB, [b"last"])


async def _gives_up(terms: _Terms) -> None:
    async with _connected(terms) as seats, _receiving(seats[ONE], seats[TWO]) as waits:
        late = "recv for a hundredth of a second, where nobody sends,"
        await _raises(seats[HUB].recv(0.01), (TransportLate,), terms, late)
        for to, wait in zip((ONE, TWO), waits, strict=True):
            await seats[HUB].send(to, b"after all")
            got = await _within(wait, terms, "recv, after another seat has given up")
            expect(got == (HUB, b"after all"), f"transport: recv of {to}, after the hub gave up: found {got!r:.80}")


async def _closes(terms: _Terms) -> None:
    """A closed side neither sends nor receives, not even what had arrived; closing twice is closing once."""
    async with _connected(terms) as seats:
        await _within(seats[HUB].send(ONE, b"unread"), terms, "send")
        await _within(seats[ONE].aclose(), terms, "aclose")
        await _within(seats[ONE].aclose(), terms, "aclose for the second time")
        await _raises(seats[ONE].send(HUB, b"late"), (TransportClosed,), terms, "send after this side was closed")
        await _raises(seats[ONE].recv(), (TransportClosed,), terms, "recv after this side was closed")


async def _ends_a_wait(terms: _Terms) -> None:
    """Closing a side wakes its own receiver."""
    async with _connected(terms) as seats, _receiving(seats[HUB]) as (waiting,):
        await _within(seats[HUB].aclose(), terms, "aclose while receiving")
        await _raises(waiting, (TransportClosed,), terms, "recv, when this side is closed meanwhile,")


async def _breaks(terms: _Terms) -> None:
    """Sending to a peer that has closed fails, at the latest when the news has arrived; others are still there."""

    async def send_until_it_fails(transport: Transport) -> None:
        while True:
            await transport.send(ONE, b"anybody there?")
            await asyncio.sleep(RETRY_SECONDS)

    async with _connected(terms) as seats:
        await _within(seats[ONE].aclose(), terms, "aclose")
        await _raises(send_until_it_fails(seats[HUB]), (TransportBroken,), terms, "send to a peer that has closed")
        await _carry(terms, seats, TWO, HUB, [b"still here"])
        await _carry(terms, seats, HUB, TWO, [b"so am I"])


async def _flushes(terms: _Terms) -> None:
    """Frames that were sent before aclose still arrive."""
    frames = [f"frame {i}".encode() * 1000 for i in range(20)]

    async def send_and_close(transport: Transport) -> None:
        for frame in frames:
            await transport.send(HUB, frame)
        await transport.aclose()

    async with _connected(terms) as seats:
        await _within(send_and_close(seats[ONE]), terms, "send, then aclose")
        got = []
        for _ in frames:
            got.append((await _within(seats[HUB].recv(), terms, "a frame sent before the peer's aclose"))[1])
        _check_frames(frames, got, terms.ordered, "frames sent before aclose")


async def _refuses_two(terms: _Terms) -> None:
    """The second receiver is refused; the first is not harmed."""
    async with _connected(terms) as seats, _receiving(seats[HUB]) as (first,):
        await _raises(seats[HUB].recv(), (TransportBusy,), terms, "recv while another task receives")
        await _within(seats[ONE].send(HUB, b"for the first"), terms, "send")
        got = await _within(first, terms, "the first of two receivers")
        expect(got == (ONE, b"for the first"), f"transport: the first of two receivers gets {got!r:.80}")


async def _notices_the_end(terms: _Terms) -> None:
    """When every peer has closed, nobody waits for ever."""
    async with _connected(terms) as seats:
        for peer in (ONE, TWO):
            await _within(seats[peer].aclose(), terms, "aclose")
        await _raises(seats[HUB].recv(), (TransportBroken, StallError), terms, "recv when every peer has closed")
    async with _connected(terms) as seats, _receiving(*seats.values()) as receivers:
        for peer in (ONE, TWO):
            await _within(seats[peer].aclose(), terms, "aclose")
        await _raises(receivers[0], (TransportBroken, StallError), terms, "recv, when every peer closes meanwhile,")
        for receiver in receivers[1:]:  # ended by their own side, or because there was nothing left to wait for
            await _raises(receiver, (TransportClosed, StallError), terms, "recv, when this side is closed meanwhile,")
