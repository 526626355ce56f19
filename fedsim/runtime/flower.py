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
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from pydantic import Field

from fedsim.config import Runtime, ScenarioFile, validate
from fedsim.distribution import format_install_command
from fedsim.errors import ConfigError, FedsimError, ProtocolError, TransportBroken, TransportError
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport, from_bytes, to_bytes
from fedsim.plan import Plan, Secrets
from fedsim.residency import describe_failure, log_failure, release_error
from fedsim.runtime._child import REPORT
from fedsim.runtime._crew import Crew, environment, no_gpu, raised
from fedsim.runtime._deployment import TICK, Deployment, describe_ignored_settings
from fedsim.runtime._followed import Followed, confess, voice_of
from fedsim.runtime._mail import Ask, answered, correspond, find_belongings, read_error, whose
from fedsim.runtime._seat import PATIENCE, Belongings, describe_simulated, play_hub, play_spoke
from fedsim.runtime._sharing import identify_operator, is_simulated, sharing, write_log
from fedsim.transport.addresses import find_loopback, join_address
from fedsim.transport.grpc import LOOPBACK, token_of

DAYS = 30.0
"""How long certificates and messages of a run hold."""
LATE = 60.0
"""Seconds that Flower may take to bring the reports when the hub has ended."""
REASONS = 5.0
"""Seconds that Flower may take to bring what the others know of a failure."""
SESSION = "query.session"
"""The type of the message that starts a party's session."""
POST = "query.post"
"""The type of a message with mail."""


class Flower(Runtime):
    """The hub in a Flower ServerApp, every other seat in a ClientApp: on this machine, or where a SuperLink has its nodes."""

    listen: str = Field(LOOPBACK, description="host:port of the hub's data port, if a SuperLink is there; 0 is any")
    advertise: str = Field("", description="the host under which parties reach it; default: that of listen")
    wait: float = Field(PATIENCE, ge=0, description="seconds in which every party must have joined the hub")
    transport: Literal["stream", "flower"] = Field(
        "stream",
        description="how frames travel; flower: as its messages, seconds each, where nothing else gets through",
    )

    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """See `Runtime.run`."""
        if (grid := _GRID.get()) is not None:
            return asyncio.run(self.conduct(*grid, file, watch))
        if self.transport == "flower" and file.checkpoint is not None:
            raise ConfigError(
                "checkpoint: with runtime.transport 'flower' every message plays a seat from its start already"
            )
        file = file.model_copy(update={"runtime": self})  # it is what the ServerApp is told
        plan, crew = file.plan(), Crew(file, watch)
        wishing = [role for role, asked in file.placement.items() if asked.get("gpus")]
        crew.notice(no_gpu(wishing))
        crew.notice(describe_ignored_settings())
        with deployment(_parties(file), self.verbose) as deployed:
            return asyncio.run(Followed(file, plan, crew, deployed).play())

    async def conduct(self, grid: Any, secrets: Secrets, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """Play the hub here, and have the nodes of a grid play the others."""
        if self.transport == "flower":
            nodes = partial(asyncio.to_thread, grid.get_node_ids)
            return await correspond(nodes, _asking(grid), file, secrets, watch, self.wait)
        return await _conduct(grid, secrets, file, watch, self.listen, self.advertise, self.wait)

    def check(self, file: ScenarioFile) -> None:
        """See `Runtime.check`."""
        if _GRID.get() is None:
            _check_installed()
            super().check(file)

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
    """Flower on this machine with a SuperNode for each party; one that is open already, for the same, is mended and used.

    Raises:
        ConfigError: Flower is not installed.
        TransportBroken: it does not start.
    """
    _check_installed()
    if _OPEN and _OPEN[-1].parties == parties:
        _OPEN[-1].mend()
        yield _OPEN[-1]
        return
    deployed = Deployment(parties, verbose)
    _OPEN.append(deployed)
    try:
        yield deployed
    finally:
        _OPEN.remove(deployed)
        deployed.end()


def _check_installed() -> None:
    if importlib.util.find_spec("flwr") is None:
        raise ConfigError(f"runtime 'flower': Flower is not installed; {format_install_command('flower')}")


def lead(grid: Any, arm: str) -> None:
    """Play one arm as the ServerApp of a Flower that `Flower` has started; reports and errors go to where that listens.

    Raises:
        FedsimError: whatever ended the run, so that Flower knows it, too.
    """
    plain = json.loads(arm)
    file = validate(plain, plain["name"], {})
    plan, runtime = file.plan(), file.runtime
    assert isinstance(runtime, Flower)
    here = runtime.model_copy(update={"listen": join_address(find_loopback(), 0), "advertise": ""})
    with voice_of(plan.hub) as voice:
        assert voice is not None, "nobody listens: this app belongs to fedsim run --runtime flower"
        try:
            for report in asyncio.run(here.conduct(grid, Secrets(), file, voice.watch)):
                if report.role == plan.hub:  # every other seat hands over its own, past the hub
                    voice.say(REPORT, to_bytes(report, plan))
        except Exception as error:
            confess(voice, error)
            raise


def find_hub_belongings(settings: Mapping[str, Any], grid: Any) -> Belongings:
    """Find what belongs to the hub's seat among the settings of a run; in Flower's simulation it simulates."""
    from flwr.superlink.grid import InMemoryGrid

    own = Belongings.named(settings)
    return replace(own, simulate=True) if not own.secret and isinstance(grid, InMemoryGrid) else own


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
            admitted=nodes.seat,
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
    _waiting: dict[str, int] = field(default_factory=dict)
    _seats: dict[str, RoleId] = field(default_factory=dict)

    def seat(self, role: RoleId, holder: str) -> None:
        """Note that the node in whose name a token was made has joined as a seat: it speaks for that one only."""
        self._seats[holder] = role

    async def call(self, port: str, hub: asyncio.Task[SeatReport]) -> None:
        """Call every node that there is until all seats are here, or the hub has given up.

        Raises:
            FedsimError: a node cannot play its seat.
        """
        while not self.ready.is_set() and not hub.done():
            for node in set(await asyncio.to_thread(self.grid.get_node_ids)) - self._called:
                self._called.add(node)
                pushed = await asyncio.to_thread(self.grid.push_messages, [self._message(node, port)])
                self._waiting |= dict.fromkeys(pushed, node)
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
            if reply.metadata.reply_to_message_id not in self._waiting:  # an answer to nothing that is still asked
                continue
            node = self._waiting.pop(reply.metadata.reply_to_message_id)
            if reply.has_error():
                self._lose(node, reply.error)
                continue
            try:
                self._take(node, read_reply(reply, "seat"))
            except FedsimError as error:
                self._distrust(node, error)

    def _take(self, node: int, said: Mapping[str, Any]) -> None:
        """Take what a node says of its session: a report, an error, or that it has no seat.

        Raises:
            FedsimError: it is none of these, or about the seat of another node.
        """
        if "idle" in said:
            self.idle.append(line := str(said["idle"]))
            self.crew.notice(line)
            return
        seat, role = self._seats.get(_holder(node)), said.get("role")
        if "report" in said:
            if seat is None or role != seat:
                raise ProtocolError(f"a report of {role!r:.80}, and has joined as {seat or 'nobody'}")
            report = from_bytes(said["report"], self.plan)
            if report.role != seat:
                raise ProtocolError(f"a report of {report.role!r:.80}, and has joined as {seat}")
            self.reports[seat] = report
            return
        free = self.plan.seats.keys() - {self.plan.hub, *self._seats.values()}
        if not isinstance(role, str) or role not in ({seat} if seat else free):
            raise ProtocolError(f"an error of {role!r:.80}, and has joined as {seat or 'nobody'}")
        self.failures.append(raised(role, *read_error(said)))

    def _distrust(self, node: int, error: FedsimError) -> None:
        """A node sent what cannot be: it ends the run if a seat is lost by that, else it is passed over with a notice."""
        if seat := self._seats.get(_holder(node)):
            self.failures.append(ProtocolError(f"{seat}, at {_holder(node)} of Flower, sent {error}"))
        else:
            self.idle.append(line := f"{_holder(node)} of Flower is passed over: it sent {error}")
            self.crew.notice(line)

    def _lose(self, node: int, error: Any) -> None:
        """Take note of a node that cannot play its seat; one that is gone is called again if it comes back."""
        from flwr.common.constant import ErrorCode

        if error.code == ErrorCode.NODE_UNAVAILABLE:  # the stream has told of the loss long before Flower does
            self._called.discard(node)
        else:
            self.failures.append(TransportBroken(f"a node of Flower failed: {error.reason}"))

    def _message(self, node: int, port: str) -> Any:
        from flwr.app import ConfigRecord, Message, RecordDict

        holder = _holder(node)
        identity = self.authority.identity(holder)
        session = {
            "file": json.dumps(self.file.resolved()),
            "operator": identify_operator(),
            "address": f"{self.host}:{port}",
            "holder": holder,
            "token": token_of(self.token, holder),
            "ca": identity.ca,
            "certificate": identity.certificate,
            "key": identity.key,
        }
        content = RecordDict({"session": ConfigRecord(session)})
        return Message(content, dst_node_id=node, message_type=SESSION, ttl=DAYS * 86400)


def _holder(node: int) -> str:
    """In whose name a node's token and certificate are."""
    return f"node {node}"


def read_reply(reply: Any, name: str) -> Mapping[str, Any]:
    """The record of this name in a reply.

    Raises:
        ProtocolError: there is none.
    """
    try:
        record = reply.content[name]
        return {str(key): value for key, value in record.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProtocolError(f"a reply without the record '{name}'") from error


def _asking(grid: Any) -> Ask:
    """How nodes of a grid are asked, and answer."""
    from flwr.app import ConfigRecord, Message, RecordDict

    async def ask(questions: Mapping[int, Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
        waiting: dict[str, int] = {}
        for node, each in questions.items():
            content = RecordDict({"post": ConfigRecord(dict(each))})
            message = Message(content, dst_node_id=node, message_type=POST, ttl=DAYS * 86400)
            pushed = await asyncio.to_thread(grid.push_messages, [message])
            waiting |= dict.fromkeys(pushed, node)
        answers: dict[int, Mapping[str, Any]] = {}
        while waiting:
            for reply in await asyncio.to_thread(grid.pull_messages, list(waiting)):
                if reply.metadata.reply_to_message_id not in waiting:
                    continue
                node = waiting.pop(reply.metadata.reply_to_message_id)
                if reply.has_error():
                    raise TransportBroken(f"{_holder(node)} of Flower failed: {reply.error.reason}")
                try:
                    answers[node] = read_reply(reply, "post")
                except ProtocolError as error:
                    raise ProtocolError(f"{_holder(node)} of Flower sent {error}") from error
            await asyncio.sleep(TICK)
        return answers

    return ask


def answer(message: Any, node: Mapping[str, Any], state: Any) -> Any:
    """Play a party as far as its mail goes: the reply to a message with mail.

    Args:
        message: as `_asking` sends it.
        node: the node's own settings, see `follow`.
        state: what Flower keeps for the node from one message to the next.
    """
    from flwr.app import ConfigRecord, Message, RecordDict

    try:
        asked = message.content["post"]
        release = partial(_release_mailed, node, str(asked.get("operator", "")))
        content, kept = answered(asked, node, state.get("post", {}), release, _tell_failure)
    except Exception as error:  # Flower would send the text of any exception to the hub
        log_failure(str(node.get("party", "a node")), error)
        content, kept = {"idle": f"a node {describe_failure(error)}"}, {}
    state["post"] = ConfigRecord(kept)
    return Message(RecordDict({"post": ConfigRecord(content)}), reply_to=message)


def _release_mailed(
    node: Mapping[str, Any], operator: str, role: RoleId, file: ScenarioFile, report: SeatReport
) -> SeatReport:
    """What the hub gets of the report of a seat that was played over its mail."""
    with voice_of(role) as voice, sharing(file, role, node, voice, operator) as share:
        return share.release(report)


def _tell_failure(role: RoleId, error: Exception) -> tuple[str, str]:
    """What the hub is told of an error at a seat; all of it goes to the seat's log, and to who has started all seats."""
    log_failure(role, error)
    with voice_of(role) as voice:
        confess(voice, error)
    return release_error(role, error)


def follow(message: Any, node: Mapping[str, Any]) -> Any:
    """Play a party as the ClientApp of a node: the reply to the message that starts the session.

    Args:
        message: as `_Nodes` sends it.
        node: the node's own settings: ``party``, where its ``data``, ``secret`` and ``ids_key`` lie; or ``simulate``, for one
            without a secret; where its ``runs`` go, and what it agrees to share (`fedsim.residency.read_consent`). In
            Flower's simulation, which has none, the node's number says which party it is.
    """
    from flwr.app import ConfigRecord, Message, RecordDict

    try:
        content = _play_session(message.content["session"], node)
    except Exception as error:  # Flower would send the text of any exception to the hub
        log_failure(str(node.get("party", "a node")), error)
        content = {"idle": f"a node {describe_failure(error)}"}
    return Message(RecordDict({"seat": ConfigRecord(content)}), reply_to=message)


def _play_session(session: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Play the seat of a node: its report, an error, or why it has no seat."""
    plain = json.loads(session["file"])
    file = validate(plain, plain["name"], {})
    plan = file.plan()
    role, why = whose(plan, node)
    if why:
        return {"idle": why}
    try:
        return {"role": role, "report": to_bytes(_play(file, role, session, node), plan)}
    except Exception as error:
        log_failure(role, error)
        return {"role": role, "error": list(release_error(role, error))}


def _play(file: ScenarioFile, role: RoleId, session: Mapping[str, Any], node: Mapping[str, Any]) -> SeatReport:
    """Play a seat; returns as much of its report as the hub may have."""
    from fedsim.transport.tls import Identity

    own = find_belongings(node)
    with voice_of(role) as voice, sharing(file, role, node, voice, str(session.get("operator", ""))) as share:
        played, secrets = own.at(file, role)
        if voice is None:  # this node is not of the machine that began the run
            played = own.keeping(played, role)
            if own.simulate and not is_simulated(node):
                write_log(describe_simulated(role))
        playing = play_spoke(
            played,
            role,
            session["token"],
            session["address"],
            identity=Identity(session["ca"], session["certificate"], session["key"]),
            holder=session["holder"],
            secrets=secrets,
            watch=share.watch,
            patience=PATIENCE,
        )
        try:
            return share.release(asyncio.run(playing))
        except Exception as error:
            confess(voice, error)
            raise
