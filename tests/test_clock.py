"""A seat whose clock differs from the hub's joins all the same, and people are told; certificates say when they hold."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from meddling import PATIENCE, made

from fedsim.errors import ProtocolError
from fedsim.play import play
from fedsim.runtime._seat import play_hub
from fedsim.transport.grpc import Hub, Pass, Spoke, token_of

TOKEN = "the token of the run"
ROSTER = ("server", "north", "east")
TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
DATES = (
    rf"; it holds from {TIME} to {TIME} UTC, and here it is {TIME}: set the clock, or make new ones with fedsim keys"
)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


def ahead(seconds: float) -> Callable[[], float]:
    return lambda: time.time() + seconds


def test_a_clock_that_differs_by_more_than_a_minute_is_remarked_upon() -> None:
    async def test() -> None:
        told: list[str] = []
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, "digest"), notice=told.append)
        spokes = []
        for role, clock in (("north", ahead(312.4)), ("east", ahead(40))):
            shows = Pass(token_of(TOKEN, role), "digest")
            spokes.append(await Spoke.connect(role, "server", hub.address, shows, PATIENCE, clock=clock))
        await hub.joined(PATIENCE)
        (line,) = told
        assert line == (
            "north's clock is 312 s ahead of server's: certificates hold from one time to another, and logs are compared by "
            "time; set it"
        )
        for end in (*spokes, hub):
            await end.aclose()

    run(test())


@pytest.mark.parametrize(
    ("clock", "found"),
    [(ahead(-3600), "north's clock is 3600 s behind"), (lambda: float("inf"), ""), (lambda: "noon", "")],
)
def test_a_clock_behind_and_one_that_is_none(clock: Callable[[], float], found: str) -> None:
    async def test() -> None:
        told: list[str] = []
        hub = await Hub.listen("server", ROSTER[:2], Pass(TOKEN, "digest"), notice=told.append)
        shows = Pass(token_of(TOKEN, "north"), "digest")
        north = await Spoke.connect("north", "server", hub.address, shows, PATIENCE, clock=clock)
        assert [line[: len(found)] for line in told] == ([found] if found else [])
        await north.aclose()
        await hub.aclose()

    run(test())


def test_people_at_the_hub_are_told_and_the_run_ends_well() -> None:
    shown: list[Mapping[str, Any]] = []
    file = made()

    async def test() -> None:
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def join(role: str, clock: Callable[[], float]) -> None:
            shows = Pass(token_of(TOKEN, role), file.digest())
            spoke = await Spoke.connect(role, "server", await listening, shows, PATIENCE, clock=clock)
            await play(file, role, spoke)
            await spoke.aclose()

        watch: Callable[[str, Mapping[str, Any]], None] = lambda role, row: shown.append(row)  # noqa: E731
        async with asyncio.TaskGroup() as seats:
            hub = seats.create_task(play_hub(file, TOKEN, listening=listening.set_result, watch=watch))
            seats.create_task(join("north", ahead(-7200)))
            seats.create_task(join("east", time.time))
        assert sum("loss" in row for row in hub.result().rows) == 12

    run(test())
    (line,) = [row["notice"] for row in shown if "notice" in row]
    assert line.startswith("north's clock is 7200 s behind server's: ")


def test_a_certificate_of_this_very_seat_that_is_out_of_date_is_told_with_its_times() -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    from fedsim.transport.certificates import Authority

    authority, now = Authority(days=1), datetime.now(UTC)
    server = authority.identity("server", ["127.0.0.1"])
    authority._held = now - timedelta(days=3), now - timedelta(days=2)
    late = authority.identity("north")

    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, "digest"), identity=server)
        with pytest.raises(ProtocolError) as refused:
            await Spoke.connect("north", "server", hub.address, Pass(TOKEN, "digest"), PATIENCE, late)
        line = f"north cannot join server at {re.escape(hub.address)}: it does not take this seat's certificate: out of date"
        assert re.fullmatch(line + DATES, str(refused.value))
        until = authority._held[1]
        assert f" to {until:%Y-%m-%d %H:%M:%S} UTC" in str(refused.value)
        await hub.aclose()

    run(test())


@pytest.mark.parametrize(
    ("days", "why"), [((-3, -2), "certificate has expired"), ((2, 3), "certificate is not yet valid")]
)
def test_a_hub_whose_certificate_does_not_hold_now_is_told_with_its_times(days: tuple[int, int], why: str) -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    from fedsim.transport.certificates import Authority

    authority, now = Authority(days=1), datetime.now(UTC)
    north = authority.identity("north")
    authority._held = now + timedelta(days=days[0]), now + timedelta(days=days[1])
    server = authority.identity("server", ["127.0.0.1"])

    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, "digest"), identity=server)
        with pytest.raises(ProtocolError, match=f"its certificate does not hold: {why}{DATES}$"):
            await Spoke.connect("north", "server", hub.address, Pass(TOKEN, "digest"), PATIENCE, north)
        await hub.aclose()

    run(test())
