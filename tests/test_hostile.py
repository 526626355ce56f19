"""Whoever does not play by the rules: strangers change nothing and are told of once, an insider is named and ends the run."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from small import small

pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")

from hostile import (
    AT,
    HUB,
    INSIDERS,
    JOINED,
    PATIENCE,
    STRANGERS,
    TOKEN,
    WINDOW,
    WRONG,
    Door,
    Malice,
    Turncoat,
    joins,
    keys,
    trickler,
)

from fedsim import mailbox, net, play
from fedsim.config import ScenarioFile
from fedsim.errors import FedsimError
from fedsim.mailbox import Mailbox
from fedsim.message import RoleId
from fedsim.outcome import SeatReport
from fedsim.runtime._seat import play_hub, play_spoke
from fedsim.runtime.local import Local
from fedsim.supervision import keeping
from fedsim.testing.runtimes import _check_equal
from fedsim.transport import _packets, _refusals, grpc
from fedsim.transport.grpc import Pass, Spoke, token_of
from fedsim.transport.wrappers import Record

FILE = small("labels")
SOON = 0.5
"""Seconds instead of minutes, so that these tests take seconds."""


def unwatched(role: RoleId, row: Mapping[str, Any]) -> None:
    return None


def calm(file: ScenarioFile) -> list[SeatReport]:
    return Local().run(file, unwatched)


def equal(mine: Sequence[SeatReport], theirs: Sequence[SeatReport]) -> None:
    for one, other in zip(mine, theirs, strict=True):
        _check_equal(one, other, one.role)


class Run:
    """A run over streams with TLS on loopback: its hub, and what the others need to join."""

    def __init__(self, file: ScenarioFile) -> None:
        self.file, self.notices = file, list[str]()
        self.authority, self.keys = keys("north", "east")
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.hub = asyncio.create_task(
            play_hub(
                file,
                TOKEN,
                identity=self.keys[HUB],
                watch=self._watch,
                listening=self._address.set_result,
                patience=PATIENCE,
            )
        )

    async def door(self) -> Door:
        return Door(await self._address, self.file.digest(), self.authority, self.keys)

    async def join(self, role: RoleId) -> Spoke:
        shows = Pass(token_of(TOKEN, role), self.file.digest())
        return await Spoke.connect(role, HUB, await self._address, shows, PATIENCE, self.keys[role])

    async def honest(self, role: RoleId) -> SeatReport:
        token = token_of(TOKEN, role)
        return await play_spoke(
            self.file, role, token, await self._address, identity=self.keys[role], patience=PATIENCE
        )

    def _watch(self, role: RoleId, row: Mapping[str, Any]) -> None:
        if "notice" in row:
            self.notices.append(row["notice"])


class Pausing(Record):
    """Stops in the middle of a training until it may go on."""

    def __init__(self, inner: Spoke) -> None:
        super().__init__(inner)
        self.on = asyncio.Event()

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """Send a frame; the tenth is held back."""
        if len(self.sent) == 9:
            await self.on.wait()
        await super().send(dst, frame)


@dataclass
class Visited:
    """A run at whose door strangers have knocked: what they were told, what the hub said, what came of it."""

    told: Mapping[str, Sequence[str]]
    notices: Sequence[str]
    reports: Sequence[SeatReport]


@pytest.fixture(scope="module")
def visited() -> Visited:
    """East is there when every stranger comes, all at once; when they are gone they come again, while all train."""

    async def test() -> Visited:
        run = Run(FILE)
        east = await run.join("east")
        playing = asyncio.create_task(play.play(FILE, "east", east))
        door = await run.door()
        first = await asyncio.gather(*(stranger(door) for stranger, _, _ in STRANGERS.values()))
        coming = [asyncio.create_task(stranger(door)) for stranger, _, _ in STRANGERS.values()]
        north = Pausing(await run.join("north"))
        training = asyncio.create_task(play.play(FILE, "north", north))
        second = await asyncio.gather(*coming)
        north.on.set()
        parts = {"north": await training, "east": await playing}
        for seat in (north, east):
            await seat.aclose()
        parts[HUB] = await run.hub
        reports = [parts[role] for role in FILE.plan().roster]
        return Visited(dict(zip(STRANGERS, zip(first, second, strict=True), strict=True)), run.notices, reports)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpc, "HELLO", 2 * SOON)
        return asyncio.run(asyncio.wait_for(test(), PATIENCE))


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_refused_and_told_of_once(visited: Visited, name: str) -> None:
    _, told, notice = STRANGERS[name]
    for each in visited.told[name]:
        assert told in each
    assert len([line for line in visited.notices if notice and notice in line]) == bool(notice), visited.notices


def test_strangers_change_nothing(visited: Visited) -> None:
    equal(visited.reports, calm(FILE))


def test_every_line_of_a_hub_is_one_line(visited: Visited) -> None:
    assert all(line.isprintable() and line.startswith("refused: 127.0.0.1 as '") for line in visited.notices)
    assert len(set(visited.notices)) == len(visited.notices)


def test_who_comes_under_ever_new_names_does_not_fill_the_terminal() -> None:
    async def test() -> list[str]:
        run = Run(FILE)
        door = await run.door()
        await asyncio.gather(*(joins(f"north {i}", run="another")(door) for i in range(_refusals.MOST + 8)))
        run.hub.cancel()
        await asyncio.gather(run.hub, return_exceptions=True)
        return run.notices

    notices = asyncio.run(asyncio.wait_for(test(), PATIENCE))
    assert len(notices) == _refusals.MOST
    assert [line.endswith("; from here on nobody else is told of") for line in notices] == [False] * 15 + [True]


def test_a_crowd_at_the_door_leaves_descriptors_to_those_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc, "CROWD", 8)
    monkeypatch.setattr(grpc, "HELLO", PATIENCE)

    async def test() -> None:
        run = Run(FILE)
        door = await run.door()
        waiting = {asyncio.create_task(trickler(1)(door)) for _ in range(20)}
        while len(waiting) > 8:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert len(waiting) == 8
        for task in (*waiting, run.hub):
            task.cancel()
        await asyncio.gather(*waiting, run.hub, return_exceptions=True)

    asyncio.run(asyncio.wait_for(test(), PATIENCE))


async def ends(run: Run, north: Awaitable[object]) -> dict[RoleId, BaseException | object]:
    """How the seats of a run end, north being played by somebody else; every wait has a deadline."""
    tasks = {HUB: run.hub, "east": asyncio.create_task(run.honest("east")), "north": asyncio.ensure_future(north)}
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*tasks.values(), return_exceptions=True)
    return dict(zip(tasks, found, strict=True))


async def turned(run: Run, malice: Malice) -> None:
    """North, honest up to a step, and then malicious."""
    spoke = await run.join("north")
    try:
        await play.play(run.file, "north", Turncoat(spoke, malice))  # type: ignore[arg-type]
    finally:
        await spoke.abort()


def named(found: Mapping[RoleId, object], why: str) -> None:
    """The hub and the honest party both end with one line that names north, the step and the cause."""
    for role in (HUB, "east"):
        error = found[role]
        assert isinstance(error, FedsimError), f"{role}: {error!r}"
        assert re.match(rf"{role} waits for \w+ of step \d+ from \w+", str(error)), error
        assert re.search(why, str(error)), error
        assert "north" in str(error)
        assert str(error).isprintable()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of seconds, not of minutes, and a short way to the end of a window."""
    monkeypatch.setattr(net, "Mailbox", partial(Mailbox, WINDOW))
    monkeypatch.setattr(play, "INSTEAD", SOON)
    monkeypatch.setattr(_packets, "STALLED", SOON)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("name", INSIDERS)
def test_an_insider_ends_the_run_and_is_named_to_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    malice, why = INSIDERS[name]
    file = FILE
    if name == "is silent":
        file = small("labels", missing={"policy": "error", "after": 4 * SOON, "only": ["north"]})
    if name == "floods with much":
        for module in (mailbox, _packets):
            monkeypatch.setattr(module, "AHEAD", 8 << 20)

    async def test() -> None:
        run = Run(file)
        found = await ends(run, turned(run, malice))
        assert isinstance(found["north"], FedsimError)
        named(found, why)

    asyncio.run(test())


@pytest.mark.parametrize("name", JOINED)
def test_who_joins_and_turns_at_once_is_named_to_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger, why = JOINED[name]
    monkeypatch.setattr(grpc, "GREETING", 4 * SOON)

    async def test() -> None:
        run = Run(FILE)
        found = await ends(run, stranger(await run.door()))
        assert found["north"] == "hung up"
        named(found, why)

    asyncio.run(test())


@pytest.mark.parametrize("name", WRONG)
def test_an_embedding_that_cannot_be_ends_the_run_and_its_sender_is_named_to_all(name: str) -> None:
    async def test() -> None:
        run = Run(FILE)
        found = await ends(run, turned(run, WRONG[name]))
        for role in (HUB, "east"):
            assert isinstance(found[role], FedsimError), f"{role}: {found[role]!r}"
            assert re.search(rf"step {AT}\b.* north sent an Embedding", str(found[role])), found[role]

    asyncio.run(test())


def test_a_flood_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A party sends without end what the hub has not asked for."""
    for module in (mailbox, _packets):
        monkeypatch.setattr(module, "AHEAD", 16 << 20)
    most, before = 0, resident()

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident())
            await asyncio.sleep(0.005)

    async def test() -> None:
        run = Run(FILE)
        watching = asyncio.create_task(watch())
        found = await ends(run, turned(run, INSIDERS["floods with much"][0]))
        watching.cancel()
        named(found, INSIDERS["floods with much"][1])

    asyncio.run(test())
    assert most - before < 300 << 20


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_when_the_honest_party_takes_the_insiders_place_the_run_goes_on_to_the_calm_result(
    soon: None, tmp_path: Path
) -> None:
    file = keeping(small("labels", checkpoint={"every": 2}), tmp_path)

    async def test() -> list[SeatReport]:
        run = Run(file)
        named(await ends(run, turned(run, INSIDERS["another kind"][0])), INSIDERS["another kind"][1])
        again = Run(file)
        found = await ends(again, again.honest("north"))
        assert "all go on after training step 2" in again.notices
        return [found[role] for role in file.plan().roster]  # type: ignore[misc]

    equal(asyncio.run(test()), calm(FILE))
