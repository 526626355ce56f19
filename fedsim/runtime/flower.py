"""Every party at a Flower SuperNode, the hub in the ServerApp: Flower starts them, frames travel on fedsim's own streams.

A node is sent one message, which starts its whole session; the reply is the seat's report. The message carries what the party
needs to join over mutual TLS: the hub's address, a certificate with its key, and a token. They are made out to the node, which
says itself whose seat it is, and let it join once.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from fedsim.config import Runtime, ScenarioFile, validate
from fedsim.errors import ConfigError, FedsimError, TransportBroken, TransportError, suggest
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport, from_bytes, to_bytes
from fedsim.plan import Plan, Secrets
from fedsim.runtime._child import ERROR, REPORT, ROWS, Voice
from fedsim.runtime._crew import GRACE, Crew, environment, no_gpu, raised
from fedsim.runtime._deployment import START, TICK, Deployment, tell
from fedsim.runtime._seat import PATIENCE, Belongings, play_hub, play_spoke
from fedsim.runtime.processes import _parcel
from fedsim.transport.grpc import LOOPBACK, token_of

NAME, END = b"N", b"."
"""Parcels of a seat to the process that started Flower: who speaks, and that all has been said."""
DAYS = 30.0
"""How long certificates and messages of a run hold."""
LATE = 60.0
"""Seconds that Flower may take to bring the reports when the hub has ended."""
REASONS = 5.0
"""Seconds that Flower may take to bring what the others know of a failure."""
SESSION = "query.session"
"""The type of the message that starts a party's session."""


class Flower(Runtime):
    """The hub in a Flower ServerApp, every other seat in a ClientApp: on this machine, or where a SuperLink has its nodes."""

    listen: str = Field(LOOPBACK, description="host:port of the hub's data port, if a SuperLink is there; 0 is any")
    advertise: str = Field("", description="the host under which parties reach it; default: that of listen")
    wait: float = Field(PATIENCE, ge=0, description="seconds in which every party must have joined the hub")

    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """See `Runtime.run`."""
        if (grid := _GRID.get()) is not None:
            return asyncio.run(_conduct(*grid, file, watch, self.listen, self.advertise, self.wait))
        plan, crew = file.plan(), Crew(file, watch)
        wishing = [role for role, asked in file.placement.items() if asked.get("gpus")]
        crew.notice(no_gpu(wishing))
        with deployment(_parties(file), self.verbose) as deployed:
            own = file.model_copy(update={"runtime": self})  # whatever the file says, this is how it is played
            return asyncio.run(_Followed(own, plan, crew, deployed).play())

    def held(self, file: ScenarioFile) -> AbstractContextManager[object]:
        """See `Runtime.held`: Flower takes longer to start than many an arm to play."""
        first = next(iter(file.arms().values()))
        return contextlib.nullcontext() if _GRID.get() else deployment(_parties(first), self.verbose)


def _parties(file: ScenarioFile) -> dict[RoleId, dict[str, str]]:
    """Every seat but the hub, with the environment variables of its processes."""
    plan = file.plan()
    return {role: environment(file.placement.get(role, {})) for role in plan.roster if role != plan.hub}


_GRID: ContextVar[tuple[Any, Secrets] | None] = ContextVar("grid", default=None)
_OPEN: list[Deployment] = []


@contextlib.contextmanager
def deployment(parties: Mapping[RoleId, Mapping[str, str]], verbose: bool = False) -> Iterator[Deployment]:
    """Flower on this machine with a SuperNode for each party; one that is open already, for the same, is used and left.

    Raises:
        ConfigError: Flower is not installed.
        TransportBroken: it does not start.
    """
    if importlib.util.find_spec("flwr") is None:
        raise ConfigError("runtime 'flower': Flower is not installed; pip install 'fedsim[flower]'")
    if _OPEN and _OPEN[-1].parties == parties:
        yield _OPEN[-1]
        return
    deployed = Deployment(parties, verbose)
    _OPEN.append(deployed)
    try:
        yield deployed
    finally:
        _OPEN.remove(deployed)
        deployed.end()


class _Followed:
    """One arm on a deployment of this machine, as the process that submits it sees it."""

    def __init__(self, file: ScenarioFile, plan: Plan, crew: Crew, deployed: Deployment) -> None:
        self._file, self._plan, self._crew, self._deployed = file, plan, crew, deployed
        self._reports: list[SeatReport] = []
        self._failures: list[BaseException] = []
        self._over, self._failed, self._begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def play(self) -> list[SeatReport]:
        """Submit the arm and pass on what its seats say until the hub has handed over every report.

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
            if self._failures:
                raise self._crew.cause(self._failures)
            return self._reports
        finally:
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
        if name.startswith("super") or (name == self._submitted and code):
            who = {"superlink": "SuperLink"}.get(name, "submission of the app")
            if name.startswith("supernode-"):
                who = f"SuperNode of {list(self._deployed.parties)[int(name.partition('-')[2])]}"
            said = self._deployed.last_words(name)
            self._fail(TransportBroken(f"Flower's {who} ended with exit code {code}: {said}"))

    def _is_late(self) -> None:
        if not self._begun.is_set():
            said = self._deployed.last_words("superlink")
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
                self._reports.append(from_bytes(content, self._plan))
            elif kind == ERROR:
                self._fail(raised(role, *json.loads(content)))
            elif kind == END:
                all_said = True
        if not all_said:
            self._fail(self._crew.died(role, "was killed or crashed"))
        if role == self._plan.hub:
            self._over.set()


@contextlib.contextmanager
def _voice(role: RoleId) -> Iterator[Voice | None]:
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


def _confess(voice: Voice | None, error: Exception) -> None:
    if voice:
        voice.flush()
        voice.say(ERROR, json.dumps([type(error).__name__, str(error)]).encode())
        voice.say(END, b"")


def lead(grid: Any, arm: str) -> None:
    """Play one arm as the ServerApp of a Flower that `Flower` has started; reports and errors go to where that listens.

    Raises:
        FedsimError: whatever ended the run, so that Flower knows it, too.
    """
    plain = json.loads(arm)
    file = validate(plain, plain["name"], {})
    plan = file.plan()
    with _voice(plan.hub) as voice:
        assert voice is not None, "nobody listens: this app belongs to fedsim run --runtime flower"
        try:
            assert isinstance(file.runtime, Flower)
            wait = file.runtime.wait
            for report in asyncio.run(_conduct(grid, Secrets(), file, voice.watch, LOOPBACK, "", wait)):
                voice.say(REPORT, to_bytes(report, plan))
        except Exception as error:
            _confess(voice, error)
            raise


@contextlib.contextmanager
def conducting(grid: Any, secrets: Secrets) -> Iterator[None]:
    """Inside of it `Flower` plays with the nodes of this grid, and the hub with these secrets."""
    before = _GRID.set((grid, secrets))
    try:
        yield
    finally:
        _GRID.reset(before)


async def _conduct(
    grid: Any, secrets: Secrets, file: ScenarioFile, watch: Watch, listen: str, advertise: str, wait: float
) -> list[SeatReport]:
    """Play the hub, and have the nodes of the grid play the others."""
    from fedsim.transport.certificates import Authority

    plan, host = file.plan(), listen.rpartition(":")[0]
    address = asyncio.get_running_loop().create_future()
    nodes = _Nodes(grid, file, plan, Crew(file, watch), advertise or host, Authority(DAYS))
    hub = asyncio.create_task(
        play_hub(
            file,
            nodes.token,
            listen,
            identity=nodes.authority.identity(plan.hub, [advertise or host]),
            secrets=secrets,
            watch=watch,
            listening=address.set_result,
            ready=nodes.ready.set,
            patience=wait,
        )
    )
    try:
        await asyncio.wait((hub, address), return_when=asyncio.FIRST_COMPLETED)
        if not hub.done():
            await nodes.call(address.result().rpartition(":")[2], hub)
        nodes.reports[plan.hub] = await hub
        await nodes.collect(LATE)
    except FedsimError as error:
        hub.cancel()
        await nodes.reasons(REASONS)
        if not nodes.ready.is_set() and nodes.idle and not nodes.failures:
            raise TransportBroken("; ".join([str(error), *nodes.idle])) from error
        raise nodes.crew.cause([error, *nodes.failures]) from error
    finally:
        hub.cancel()
        await asyncio.gather(hub, return_exceptions=True)
    return [nodes.reports[role] for role in plan.roster]


@dataclass
class _Nodes:
    """The nodes of a grid in one run: each is called once, and replies with a report."""

    grid: Any
    file: ScenarioFile
    plan: Plan
    crew: Crew
    host: str
    authority: Any
    token: str = field(default_factory=lambda: os.urandom(32).hex(), repr=False)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    reports: dict[RoleId, SeatReport] = field(default_factory=dict)
    failures: list[FedsimError] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    _called: set[int] = field(default_factory=set)
    _waiting: set[str] = field(default_factory=set)

    async def call(self, port: str, hub: asyncio.Task[SeatReport]) -> None:
        """Call every node that there is until all seats are here, or the hub has given up.

        Raises:
            FedsimError: a node cannot play its seat.
        """
        while not self.ready.is_set() and not hub.done():
            for node in set(await asyncio.to_thread(self.grid.get_node_ids)) - self._called:
                self._called.add(node)
                self._waiting |= set(await asyncio.to_thread(self.grid.push_messages, [self._message(node, port)]))
            await self._pull()
            if self.failures:
                raise self.failures[0]
            await asyncio.sleep(TICK)

    async def collect(self, seconds: float) -> None:
        """Wait for the reports of all seats.

        Raises:
            FedsimError: a seat has failed, or its report does not come.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while missing := [role for role in self.plan.roster if role not in self.reports]:
            await self._pull()
            if self.failures:
                raise self.failures[0]
            if asyncio.get_running_loop().time() > deadline:
                raise TransportBroken(f"Flower has brought no report of {', '.join(missing)} within {seconds:g} s")
            await asyncio.sleep(TICK)

    async def reasons(self, seconds: float) -> None:
        """Wait for what the nodes know of a failure, until one knows more than that it has lost a peer."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._waiting and asyncio.get_running_loop().time() < deadline:
            await self._pull()
            if any(not isinstance(error, TransportError) for error in self.failures):
                return
            await asyncio.sleep(TICK)

    async def _pull(self) -> None:
        """Take the replies that are there."""
        for reply in await asyncio.to_thread(self.grid.pull_messages, list(self._waiting)) if self._waiting else ():
            self._waiting.discard(reply.metadata.reply_to_message_id)
            if reply.has_error():
                self.failures.append(TransportBroken(f"a node of Flower failed: {reply.error.reason}"))
                continue
            said = reply.content["seat"]
            if "report" in said:
                self.reports[said["role"]] = from_bytes(said["report"], self.plan)
            elif "idle" in said:
                self.idle.append(said["idle"])
                self.crew.notice(said["idle"])
            else:
                self.failures.append(raised(said["role"], *said["error"]))

    def _message(self, node: int, port: str) -> Any:
        from flwr.app import ConfigRecord, Message, RecordDict

        holder = f"node {node}"
        identity = self.authority.identity(holder)
        session = {
            "file": json.dumps(self.file.resolved()),
            "address": f"{self.host}:{port}",
            "holder": holder,
            "token": token_of(self.token, holder),
            "ca": identity.ca,
            "certificate": identity.certificate,
            "key": identity.key,
        }
        content = RecordDict({"session": ConfigRecord(session)})
        return Message(content, dst_node_id=node, message_type=SESSION, ttl=DAYS * 86400)


def follow(message: Any, node: Mapping[str, Any]) -> Any:
    """Play a party as the ClientApp of a node: the reply to the message that starts the session.

    Args:
        message: as `_Nodes` sends it.
        node: the node's own settings: ``party``, and where its ``data``, ``secret`` and ``ids_key`` lie. In Flower's
            simulation, which has none, the node's number says which party it is.
    """
    from flwr.app import ConfigRecord, Message, RecordDict

    session = message.content["session"]
    plain = json.loads(session["file"])
    file = validate(plain, plain["name"], {})
    plan = file.plan()
    content: dict[str, Any] = {}
    role, why = _whose(plan, node)
    if why:
        content["idle"] = why
    else:
        content["role"] = role
        try:
            content["report"] = to_bytes(_play(file, role, session, node), plan)
        except Exception as error:
            content["error"] = [type(error).__name__, str(error)]
    return Message(RecordDict({"seat": ConfigRecord(content)}), reply_to=message)


def _whose(plan: Plan, node: Mapping[str, Any]) -> tuple[RoleId, str]:
    """Whose seat a node has, or why none: a SuperLink may have nodes of parties that this scenario does without."""
    parties = [role for role in plan.roster if role != plan.hub]
    if "party" not in node and "partition-id" in node:
        number = int(node["partition-id"])
        return (parties[number], "") if number < len(parties) else ("", f"node {number} of the simulation has no seat")
    party = str(node.get("party", ""))
    return (party, "") if party in parties else ("", f"a node says party='{party:.80}'{suggest(party, parties)}")


def _play(file: ScenarioFile, role: RoleId, session: Mapping[str, Any], node: Mapping[str, Any]) -> SeatReport:
    from fedsim.transport.tls import Identity

    file, secrets = Belongings.named(node).at(file, role)
    with _voice(role) as voice:
        playing = play_spoke(
            file,
            role,
            session["token"],
            session["address"],
            identity=Identity(session["ca"], session["certificate"], session["key"]),
            holder=session["holder"],
            secrets=secrets,
            watch=voice.watch if voice else lambda role, row: None,
            patience=PATIENCE,
        )
        try:
            return asyncio.run(playing)
        except Exception as error:
            _confess(voice, error)
            raise
