"""Every seat in a process of its own on this machine; frames travel over gRPC on loopback."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Mapping

from fedsim.config import Runtime, ScenarioFile
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport, from_bytes
from fedsim.plan import Plan
from fedsim.runtime._causes import find_cause
from fedsim.runtime._child import ADDRESS, ERROR, PARCEL, REPORT, ROWS
from fedsim.runtime._crew import GRACE, Crew, ending, environment, no_gpu, raised, tokens
from fedsim.runtime._environment import child_environment

MAX_LINES = 200
"""Lines of a seat's error output that are kept, to find in them why it ended."""
PROGRAM = "from fedsim.runtime import _child; _child.main()"


class Processes(Runtime):
    """All seats on this machine, one process each: nobody but a seat holds its features."""

    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """See `Runtime.run`."""
        return asyncio.run(_run(file, watch, self.verbose))


async def _run(file: ScenarioFile, watch: Watch, verbose: bool) -> list[SeatReport]:
    plan, crew = file.plan(), Crew(file, watch)
    crew.notice(no_gpu([role for role, asked in file.placement.items() if asked.get("gpus")]))
    members = {role: _Member(role, plan, crew) for role in plan.roster}
    shown = tokens(plan)
    tasks: list[asyncio.Task[SeatReport]] = []
    try:
        for role, member in members.items():
            await member.start(file, shown[role], verbose)
        tasks = [asyncio.create_task(member.follow(members)) for member in members.values()]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if rest:  # one has failed: the others are about to say why
            done |= (await asyncio.wait(rest, timeout=GRACE))[0]
        if failed := [error for task in tasks if task in done and (error := task.exception())]:
            raise crew.cause(failed)
        return [task.result() for task in tasks]
    finally:
        for member in members.values():
            await member.end()
        await asyncio.gather(*tasks, return_exceptions=True)  # what they still say is no news


class _Member:
    """A seat's process, as the one that started it sees it."""

    def __init__(self, role: RoleId, plan: Plan, crew: Crew) -> None:
        self._role, self._plan, self._crew = role, plan, crew
        self._process: Process | None = None
        self._said: deque[str] = deque(maxlen=MAX_LINES)

    async def start(self, file: ScenarioFile, token: str, verbose: bool) -> None:
        """Start the process with a fresh interpreter and give it its orders; nothing secret is on its command line."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", PROGRAM, "fedsim seat", self._role),  # the last two are for ps
            stdin=PIPE,
            stdout=PIPE,
            stderr=None if verbose else PIPE,
            env=child_environment({}),
            start_new_session=True,  # Ctrl-C is for the process that started all, which then ends the others
        )
        orders = {
            "file": file.resolved(),
            "role": self._role,
            "token": token,
            "verbose": verbose,
            "environment": environment(file.placement.get(self._role, {})),
        }
        await self._tell(json.dumps(orders))

    async def follow(self, members: Mapping[RoleId, _Member]) -> SeatReport:
        """Pass on what the seat says, until its report.

        Raises:
            FedsimError: what the seat raised, or how its process died.
        """
        process, report = self._running(), None
        assert process.stdout is not None
        errors_read = asyncio.create_task(self._listen(process.stderr))
        while (parcel := await _parcel(process.stdout)) is not None:
            kind, content = parcel
            if kind == ADDRESS:
                for member in members.values():
                    if member is not self:
                        await member._tell(content.decode())
            elif kind == ROWS:
                for row in json.loads(content):
                    self._crew.watch(self._role, row)
            elif kind == REPORT:
                report = from_bytes(content, self._plan)
            elif kind == ERROR:
                raise raised(self._role, *json.loads(content))
        code = await process.wait()
        await errors_read
        if report is None or code:
            raise self._crew.died(self._role, ending(code, find_cause("\n".join(self._said))))
        return report

    async def end(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()

    async def _tell(self, line: str) -> None:
        stdin = self._running().stdin
        assert stdin is not None
        try:
            stdin.write(line.encode() + b"\n")
            await stdin.drain()
        except ConnectionError:  # it has died; whoever follows it says how
            return

    async def _listen(self, stderr: asyncio.StreamReader | None) -> None:
        while stderr is not None and (line := await stderr.readline()):
            self._said.append(line.decode(errors="replace").rstrip())

    def _running(self) -> Process:
        assert self._process is not None, "start comes first"
        return self._process


async def _parcel(stream: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """The next parcel; None if the process has ended."""
    try:
        kind, size = PARCEL.unpack(await stream.readexactly(PARCEL.size))
        return kind, await stream.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
