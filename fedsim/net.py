"""What a role sees of the world: its peers by name, messages by kind and step, and a log."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from fedsim.channel import Placed
from fedsim.errors import ProtocolError, StallError, TransportBroken, TransportLate, WireError
from fedsim.figure import Figure
from fedsim.mailbox import Key, Mailbox
from fedsim.message import Message, RoleId
from fedsim.rows import Rows
from fedsim.state import Lasting
from fedsim.transport.base import Transport
from fedsim.wire import Envelope, Limits, decode, encode, number_size

M = TypeVar("M", bound=Message)
INSTEAD = 300.0
"""Seconds that a peer may let a seat wait after it has sent something else: longer than it computes between two messages."""
Watch = Callable[[RoleId, Mapping[str, Any]], None]


@dataclass
class Traffic:
    """What a seat has sent: frames and bytes by ``(peer, kind)``."""

    frames: Counter[tuple[RoleId, str]] = field(default_factory=Counter)
    size: Counter[tuple[RoleId, str]] = field(default_factory=Counter)


class Cuts(Protocol):
    """Where a run can be taken up again.

    Attributes:
        every: training steps from one part to the next.
    """

    every: int

    def take_up(self, role: Lasting) -> None:
        """If the run goes on from a part: become what it was; called once, when all before the training is played."""

    def take(self, done: int, step: int, role: Lasting) -> None:
        """Keep a part after ``done`` training steps, from which loops go on with ``step``.

        Raises:
            OutputError: the part before could not be written.
        """


class Absent(Protocol):
    """What the file says of messages that are missing: see `fedsim.plan.Missing`."""

    @property
    def policy(self) -> str:
        """error | wait | drop | impute."""

    @property
    def after(self) -> float:
        """Seconds."""


@lru_cache(maxsize=8)
def _members(roster: tuple[RoleId, ...]) -> frozenset[RoleId]:
    """The seats of a roster; one set for all of them that live in one process."""
    return frozenset(roster)


class Net:
    """One seat's view: who it is, who else there is, and the stages on its ends of the links.

    Attributes:
        me: this seat.
        hub: the seat that holds the top model.
        roster: every seat; its order is the order of every reduction.
        step: the step at which loops start (later than 0 after a resume); those of several stages count on in it.
        done: training steps that were done before the start (more than 0 after a resume).
        cuts: what keeps parts of checkpoints; None without.
        awaits: what this seat waits for at present.
        instead: seconds that a peer may let this seat wait after it has sent something else; None where a transport notices
            by itself that nobody can go on.
        missing: by peer, what is done if its messages do not come in time; without, they are waited for.
        outgoing: by peer, what a message passes before it leaves, in order.
        incoming: by peer, what a message passes before the role gets it, in order.
    """

    def __init__(
        self,
        me: RoleId,
        hub: RoleId,
        roster: Sequence[RoleId],
        transport: Transport,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        watch: Watch = lambda role, row: None,
    ) -> None:
        self.me, self.hub, self.roster = me, hub, tuple(roster)
        self.step = self.done = 0
        self.outgoing: dict[RoleId, list[Placed[Any]]] = defaultdict(list)
        self.incoming: dict[RoleId, list[Placed[Any]]] = defaultdict(list)
        self.traffic = Traffic()
        self.rows = Rows()
        self.figures: list[Figure] = []
        self.cuts: Cuts | None = None
        self.awaits: Key | None = None
        self.instead: float | None = None
        self.missing: dict[RoleId, Absent] = {}
        self._transport, self._limits, self._watch = transport, limits, watch
        self._mailbox, self._members = Mailbox(), _members(self.roster)
        self._seq: Counter[RoleId] = Counter()
        self._counted: Counter[RoleId] = Counter()

    @property
    def peers(self) -> tuple[RoleId, ...]:
        """Everyone else, in roster order."""
        return tuple(role for role in self.roster if role != self.me)

    async def send(self, to: RoleId, message: Message) -> None:
        """Pass ``message`` through this end's stages and send what comes out."""
        for placed in self.outgoing[to]:
            message = placed(message)
        number, count, key = self._seq[to], self._counted[to], (to, message.kind())
        frame = encode(Envelope(self.me, to, number, message))
        self._seq[to] += 1
        self._counted[to] += 1
        self.traffic.frames[key] += 1
        self.traffic.size[key] += len(frame)
        if number != count:
            self.traffic.size[key] += number_size(count) - number_size(number)
        await self._transport.send(to, frame)

    async def recv(self, frm: RoleId, kind: type[M], step: int, within: float | None = None) -> M:
        """Wait for the message of this kind and step from ``frm``; stages see messages in the order they are asked for.

        With ``within`` for so many seconds at most.

        Raises:
            TransportLate: it did not come in time; if it comes later it lies in the mailbox.
            ProtocolError: a peer sent a frame in another's name, a replay, something else instead, or ran too far ahead.
            WireError: a peer sent bytes that are not a frame.
            StallError: nobody can go on; says what this seat waits for.
            TransportBroken: a peer was lost, or all have closed; the same.
        """
        self.awaits = key = (frm, kind.kind(), step)
        now = asyncio.get_running_loop().time
        until, instead = None if within is None else now() + within, None
        while (message := self._mailbox.take(key)) is None:
            if until is None and self.instead is not None and (instead := self._mailbox.first(frm)):
                until = now() + self.instead
            try:
                await self._pump(key, until)
            except TransportLate as late:
                if instead is None:
                    raise
                raise ProtocolError(f"{self.waits(key)}, which has sent {instead[1]} of step {instead[2]}") from late
        self.awaits = None
        for placed in self.incoming[frm]:
            message = placed(message)
        assert isinstance(message, kind)
        return message

    def forgo(self, frm: RoleId, kind: type[Message], step: int) -> None:
        """Go on without this message: it is thrown away if it comes after all."""
        self._mailbox.forgo((frm, kind.kind(), step))

    async def broadcast(self, message: Message) -> None:
        """Send to everyone else, in roster order."""
        for peer in self.peers:
            await self.send(peer, message)

    async def gather(self, kind: type[M], step: int, peers: Sequence[RoleId] | None = None) -> dict[RoleId, M]:
        """One message from each of ``peers`` (default: everyone else), in roster order whatever came first."""
        return {peer: await self.recv(peer, kind, step) for peer in peers or self.peers}

    def recount(self, traffic: Traffic) -> None:
        """Go on counting from ``traffic``; frames count as in a run that was not cut short, where their numbers follow it."""
        self.traffic, self._counted = traffic, Counter()
        for (peer, _), frames in traffic.frames.items():
            self._counted[peer] += frames

    def log(self, **values: Any) -> None:
        """Note a row of metrics, and show it to whoever watches the run."""
        self.rows.append(values)
        self._watch(self.me, values)

    def draw(self, figure: Figure) -> None:
        """Bring a figure to the report."""
        self.figures.append(figure)

    def show(self, row: Mapping[str, Any]) -> None:
        """Show a row of progress to whoever watches the run; it is no part of the result."""
        self._watch(self.me, row)

    def waits(self, key: Key) -> str:
        """That this seat waits for it, in words."""
        return f"{self.me} waits for {key[1]} of step {key[2]} from {key[0]}"

    async def _pump(self, key: Key, until: float | None) -> None:
        left = None if until is None else max(0.0, until - asyncio.get_running_loop().time())
        try:
            sender, frame = await self._transport.recv(left)
        except TransportLate as late:
            raise TransportLate(f"{self.waits(key)}, and waited long enough") from late
        except StallError as stall:
            raise StallError(self.waits(key)) from stall
        except TransportBroken as broken:
            raise TransportBroken(f"{self.waits(key)}: {broken}") from broken
        try:
            self._accept(sender, frame)
        except ProtocolError as error:
            raise ProtocolError(f"{self.waits(key)}: {error}") from error
        except WireError as error:
            raise WireError(f"{self.waits(key)}: {sender} sent what {self.me} cannot read: {error}") from error

    def _accept(self, sender: RoleId, frame: bytes) -> None:
        envelope = decode(frame, self._limits)
        if envelope.src != sender or envelope.dst != self.me:
            raise ProtocolError(f"{sender} sent a frame from {envelope.src!r:.80} to {envelope.dst!r:.80} to {self.me}")
        if sender not in self._members:
            raise ProtocolError(f"{sender} is not in the roster {', '.join(self.roster)}")
        self._mailbox.put(envelope, len(frame))
