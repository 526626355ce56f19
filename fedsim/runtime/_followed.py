"""One arm on a Flower of this machine: how the process that submits it hears from the seats, and how they speak to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

from fedsim.config import ScenarioFile
from fedsim.errors import TransportBroken
from fedsim.message import RoleId
from fedsim.outcome import SeatReport, from_bytes
from fedsim.plan import Plan
from fedsim.residency import name_error
from fedsim.runtime._child import ERROR, REPORT, ROWS, Voice
from fedsim.runtime._crew import GRACE, Crew, ending, raised
from fedsim.runtime._deployment import START, Deployment, tell
from fedsim.runtime.processes import _parcel

NAME, END = b"N", b"."
"""Parcels of a seat to the process that started Flower: who speaks, and that all has been said."""


class Followed:
    """One arm on a deployment of this machine, as the process that submits it sees it."""

    def __init__(self, file: ScenarioFile, plan: Plan, crew: Crew, deployed: Deployment) -> None:
        self._file, self._plan, self._crew, self._deployed = file, plan, crew, deployed
        self._reports: dict[RoleId, SeatReport] = {}
        self._failures: list[BaseException] = []
        self._over, self._failed, self._begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def play(self) -> list[SeatReport]:
        """Submit the arm and pass on what its seats say until each has handed over its report.

        Raises:
            FedsimError: what a seat raised, or what has ended.
        """
        self._loop = asyncio.get_running_loop()
        self._deployed.on_end = self._pass_on
        self._deployed.voice.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._hear, self._deployed.voice)
        late = self._loop.call_later(START, self._is_late)
        try:
            self._submitted = self._deployed.submit(self._file)
            waits = [asyncio.create_task(event.wait()) for event in (self._over, self._failed)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self._over.is_set():  # one has failed: the others are about to say why
                await asyncio.wait(waits[:1], timeout=GRACE)
            for wait in waits:
                wait.cancel()
            if not self._failures:  # every other seat has ended before the hub, but may not have been heard out
                await asyncio.wait(list(self._connections), timeout=START)
            if self._failures:
                raise self._crew.cause(self._failures)
            if missing := [role for role in self._plan.roster if role not in self._reports]:
                raise TransportBroken(f"{', '.join(missing)} ended without a report")
            return [self._reports[role] for role in self._plan.roster]
        finally:
            self._deployed.on_end = lambda name, code: None
            late.cancel()
            server.close()
            for writer in self._connections.values():
                writer.close()  # which ends who reads: a task that is cancelled makes asyncio complain
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _fail(self, error: BaseException) -> None:
        self._failures.append(error)
        self._failed.set()

    def _pass_on(self, name: str, code: int) -> None:
        self._loop.call_soon_threadsafe(self._ended, name, code)

    def _ended(self, name: str, code: int) -> None:
        ended = ending(code, self._deployed.find_cause(name))
        if name == "superlink":
            self._fail(self._crew.died("Flower's SuperLink", ended))
        elif name.startswith("supernode-"):
            party = list(self._deployed.parties)[int(name.partition("-")[2])]
            self._fail(self._crew.died(f"{party}'s SuperNode", ended))
        elif name == self._submitted and code:
            self._fail(TransportBroken(f"Flower's submission of the app {ended}"))

    def _is_late(self) -> None:
        if not self._begun.is_set():
            said = self._deployed.find_cause("superlink")
            self._fail(TransportBroken(f"Flower has not started the hub within {START:g} s: {said}"))

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What one seat says, from its name to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            await self._hear_out(reader)
        finally:
            writer.close()

    async def _hear_out(self, reader: asyncio.StreamReader) -> None:
        role, all_said = "", False
        while (parcel := await _parcel(reader)) is not None:
            kind, content = parcel
            if kind == NAME:
                role = content.decode()
                if role == self._plan.hub:
                    self._begun.set()
            elif kind == ROWS:
                for row in json.loads(content):
                    self._crew.watch(role, row)
            elif kind == REPORT:
                self._reports[role] = from_bytes(content, self._plan)
            elif kind == ERROR:
                self._fail(raised(role, *json.loads(content)))
            elif kind == END:
                all_said = True
        if not all_said:
            self._fail(self._crew.died(role, "was killed or crashed"))
        if role == self._plan.hub:
            self._over.set()


@contextlib.contextmanager
def voice_of(role: RoleId) -> Iterator[Voice | None]:
    """How a seat talks to the process that started Flower, if that listens."""
    connection = tell()
    if connection is None:
        yield None
        return
    with connection, connection.makefile("wb") as out:
        voice = Voice(out)
        voice.say(NAME, role.encode())
        yield voice
        with contextlib.suppress(OSError):
            voice.flush()
            voice.say(END, b"")


def confess(voice: Voice | None, error: Exception) -> None:
    if voice:
        voice.flush()
        voice.say(ERROR, json.dumps([name_error(error), str(error)]).encode())
        voice.say(END, b"")
