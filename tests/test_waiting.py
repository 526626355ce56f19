"""A peer that is connected and says nothing is told of, ever more seldom; the numbers stay what they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import pytest
from meddling import PATIENCE, made, streams

from fedsim.config import ScenarioFile
from fedsim.message import Message, RoleId
from fedsim.outcome import SeatReport
from fedsim.play import play
from fedsim.runtime.local import Local
from fedsim.transport.base import Transport
from fedsim.transport.wrappers import _Wrapped
from fedsim.vfl.messages import Embedding
from fedsim.wire import decode


class Stuck(_Wrapped):
    """Holds the embedding of one step back until the hub has told of it so many times."""

    def __init__(self, inner: Transport, times: int) -> None:
        super().__init__(inner)
        self._left, self._told = times, asyncio.Event()
        self.lines: list[str] = []

    def watch(self, role: RoleId, row: Mapping[str, Any]) -> None:
        if "notice" in row and role == "server":
            self.lines.append(row["notice"])
            if len(self.lines) == self._left:
                self._told.set()

    async def send(self, dst: RoleId, frame: bytes) -> None:
        message: Message = decode(frame).message
        if isinstance(message, Embedding) and message.step == 3:
            await self._told.wait()
        await self.inner.send(dst, frame)


def waiting(file: ScenarioFile, times: int) -> tuple[list[str], list[SeatReport]]:
    """What the hub tells while north is stuck, and what all report."""

    async def all_() -> tuple[list[str], list[SeatReport]]:
        ways = await streams(file)
        stuck = Stuck(ways["north"], times)
        plays = [
            play(file, role, stuck if role == "north" else way, watch=stuck.watch, reminds=0.08)
            for role, way in ways.items()
        ]
        reports = await asyncio.gather(*plays)
        for way in reversed(ways.values()):
            await way.aclose()
        return stuck.lines, list(reports)

    return asyncio.run(asyncio.wait_for(all_(), PATIENCE))


@pytest.mark.parametrize("missing", [None, {"policy": "error", "after": PATIENCE}], ids=["plain", "with a policy"])
def test_a_peer_that_is_stuck_is_told_of_and_the_run_goes_on(missing: Any) -> None:
    file = made()
    if missing:
        file = type(file).model_validate({**file.resolved(), "missing": missing})
    lines, reports = waiting(file, times=2)
    advice = "" if missing else "; missing: {policy: error, after: SECONDS} in the file ends such a wait"
    line = r"server waits for Embedding of step 3 from north, for \d+ s now; north is connected: it computes, waits itself, or "
    assert len(lines) == 2
    for each in lines:
        assert re.fullmatch(rf"{line}is stuck{re.escape(advice)}", each)
    calm = {report.role: report for report in Local().run(made(), lambda role, row: None)}
    for report in reports:
        assert report.rows == calm[report.role].rows
        assert report.traffic == calm[report.role].traffic


def test_who_is_not_stuck_is_not_told_of() -> None:
    shown: list[Mapping[str, Any]] = []

    async def all_() -> None:
        file = made()
        ways = await streams(file)
        seats = [
            play(file, role, way, watch=lambda role, row: shown.append(row), reminds=PATIENCE)
            for role, way in ways.items()
        ]
        await asyncio.gather(*seats)
        for way in reversed(ways.values()):
            await way.aclose()

    asyncio.run(asyncio.wait_for(all_(), PATIENCE))
    assert shown
    assert [row for row in shown if "notice" in row] == []
