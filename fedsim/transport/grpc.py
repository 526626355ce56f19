"""Frames between processes: one bidirectional gRPC stream from each seat to the hub, which relays between the others.

Frames are opaque here and there is no generated code. gRPC's own threads move the bytes and answer the heartbeats, outside of
Python's lock, so a seat that computes for minutes is alive and one that is frozen is noticed.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what went wrong is told once, by us

import grpc
import grpc.aio

from fedsim.errors import ProtocolError, TransportBroken
from fedsim.message import RoleId
from fedsim.printable import replace_harmful
from fedsim.transport._ends import End
from fedsim.transport._packets import HAS_LEFT, IS_FRAME, IS_LOST, PART, WHOLE, Queue, head_of, text, timely, unpacked
from fedsim.transport._refusals import Refusals
from fedsim.transport.addresses import (
    CONNECT_TIMEOUT_S,
    explain_connect,
    explain_listen,
    find_loopback,
    join_address,
    split_address,
)
from fedsim.transport.tls import Identity, knock

LOOPBACK = "127.0.0.1:0"
"""Where a hub listens by default: this machine only, any free port; ::1 takes its place where 127.0.0.1 is missing."""
GREETING = 60.0
"""Seconds in which who has joined must send something: every seat greets before anything else."""
TOLD = 4
"""How many of those that were refused are named where a seat has not come."""
CROWD = 1 << 20
"""Connections to a hub, at most; no more than half of the descriptors that its process may have, either."""
LINGER = 60.0
"""Seconds that `aclose` waits for a peer that is alive and takes nothing."""
GOODBYE = 1.0
"""Seconds in which peers must have heard why this side gives up."""
MOST_TOLD = 500
"""Characters of what the other side says at an end."""
HEARTBEAT = {"grpc.keepalive_time_ms": 1000, "grpc.keepalive_timeout_ms": 3000, "grpc.http2.ping_timeout_ms": 3000}
"""A silent peer is asked after a second and must answer within three."""
HELLO_FIELDS = ("role", "token", "digest", "holder", "process", "clock")
"""What a seat says of itself when it joins."""
HELLO = 10.0
"""Seconds in which who connects to a hub must have come through TLS, and then have joined."""

BROKE = "is gone: its connection broke"
JOIN_AGAIN = 0.2
"""Seconds after which a seat whose earlier connection the hub has just dropped tries to join again."""
_STILL_OPEN = grpc.StatusCode.RESOURCE_EXHAUSTED
"""The status of such a refusal; the others that a seat may meet in joining are not to be tried again."""
SKEW = 60.0
"""Seconds by which the clock of a seat that joins may differ from the hub's without a remark."""

_OPTIONS = [
    *HEARTBEAT.items(),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.max_send_message_length", PART + WHOLE),
    ("grpc.max_receive_message_length", PART + WHOLE),
    ("grpc.http2.max_frame_size", 4 << 20),
    ("grpc.http2.lookahead_bytes", PART),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
_HUNG_UP = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_SERVICE, _METHOD = "fedsim.Frames", "Join"


@dataclass(frozen=True)
class Pass:
    """What a seat shows the hub, and the hub compares: a token, and the digest of the experiment.

    The hub has the token of the run, each other seat its own, `token_of` its role.

    Attributes:
        holder: in whose name token and certificate are, if not the role's: they then let one seat join, whichever is free.
        process: a random name of the seat's process. A process that joins as a seat that it already is has lost its earlier
            connection, which the hub then drops; empty if it joins once only.
    """

    token: str = field(repr=False)
    digest: str
    holder: str = ""
    process: str = ""


def token_of(token: str, role: RoleId) -> str:
    """The token of one seat in the run with this token: no other seat can be joined as with it."""
    return hmac.digest(token.encode(), role.encode(), "sha256").hex()


class Hub(End):
    """The hub's end of every stream. Who sent a frame is known by the stream on which it came.

    Attributes:
        address: where it listens, ``host:port``.
    """

    def __init__(
        self,
        role: RoleId,
        roster: Iterable[RoleId],
        admits: Pass,
        server: grpc.aio.Server,
        certified: bool,
        notice: Callable[[str], None],
        admitted: Callable[[RoleId, str], None],
    ) -> None:
        super().__init__(role)
        self.address = ""
        self._admits, self._server, self._certified = admits, server, certified
        self._notice, self._refusals, self._admitted = notice, Refusals(notice), admitted
        self._came: set[str] = set()
        self._queues = {peer: Queue() for peer in roster if peer != role}
        self._here: dict[RoleId, asyncio.Event] = {peer: asyncio.Event() for peer in self._queues}
        self._left: dict[RoleId, asyncio.Event] = {peer: asyncio.Event() for peer in self._queues}
        self._stale: dict[RoleId, asyncio.Event] = {peer: asyncio.Event() for peer in self._queues}
        self._processes: dict[RoleId, str] = {}
        self._ending = asyncio.Event()
        self._why = ""

    @staticmethod
    async def listen(
        role: RoleId,
        roster: Iterable[RoleId],
        admits: Pass,
        address: str = LOOPBACK,
        identity: Identity | None = None,
        notice: Callable[[str], None] = lambda line: None,
        admitted: Callable[[RoleId, str], None] = lambda role, holder: None,
    ) -> Hub:
        """Listen for the other seats of a roster.

        Args:
            role: the hub's own name.
            roster: every seat.
            admits: the token of the run, and the digest that the others must show.
            address: ``host:port``; port 0 takes a free one.
            identity: for TLS on both sides; None is for one machine, or a network that is trusted.
            notice: told a line for people when somebody is refused, once for each host, role and reason, or has another time.
            admitted: told each seat that joins, and in whose name its token and certificate are.

        Raises:
            ConfigError: the address has another form than ``host:port``.
            TransportBroken: the address cannot be used; says why.
        """
        if address == LOOPBACK:
            address = join_address(find_loopback(), 0)
        host, _ = split_address(address)
        server = grpc.aio.server(options=[*_OPTIONS, *_porch()])
        hub = Hub(role, roster, admits, server, identity is not None, notice, admitted)
        method = grpc.stream_stream_rpc_method_handler(hub._join)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method})])
        try:
            if identity is None:
                port = server.add_insecure_port(address)
            else:
                pairs = [(identity.key, identity.certificate)]
                port = server.add_secure_port(address, grpc.ssl_server_credentials(pairs, identity.ca, True))
        except RuntimeError as error:
            reason = await asyncio.to_thread(explain_listen, address) or "gRPC refuses this spelling"
            raise TransportBroken(f"cannot listen at {address}: {reason}") from error
        hub.address = join_address(host, port)
        await server.start()
        return hub

    async def joined(self, seconds: float) -> None:
        """Wait until every seat is connected.

        Raises:
            TransportBroken: names those that were not in time.
        """
        try:
            async with asyncio.timeout(seconds):
                for event in self._here.values():
                    await event.wait()
        except TimeoutError:
            missing = [peer for peer, event in self._here.items() if not event.is_set()]
            told = "".join(f"; refused: {each}" for each in self._refusals.lines[-TOLD:])
            raise TransportBroken(f"{', '.join(missing)} did not connect within {seconds:g} s{told}") from None

    async def deserted(self) -> None:
        """Wait until every other seat is gone: until then the hub relays what they say to each other."""
        for event in self._left.values():
            await event.wait()

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        if not self._close():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                for peer, queue in self._queues.items():
                    if self._here[peer].is_set():
                        await queue.empty()
        self._ending.set()
        await self._server.stop(grace=LINGER)

    async def abort(self, why: str = "") -> None:
        """Close at once, as something that went wrong: peers take this seat for lost, and are told why if there is a word."""
        self._close()
        self._why = why
        if why:
            self._ending.set()
        await self._server.stop(grace=GOODBYE if why else None)

    def _way(self, dst: RoleId) -> Queue:
        if dst not in self._queues:
            raise TransportBroken(f"{dst} is none of the seats {', '.join(self._queues)}")
        return self._queues[dst]

    def _label(self, dst: RoleId) -> RoleId:
        return self._role

    def _deserted(self) -> bool:
        return len(self._gone) == len(self._queues)

    async def _join(self, requests: Any, context: Any) -> None:
        """One stream, from hello to end."""
        role = await self._admit(context)
        queue = self._queues[role]
        try:
            await context.write(b"")
        except BaseException:
            self._part(role, not self._closed, BROKE)
            raise
        writer = asyncio.create_task(queue.drain(context.write))
        reader = asyncio.create_task(self._read(role, context.read))
        ending = asyncio.create_task(self._ending.wait())
        stale = asyncio.create_task(self._stale[role].wait())
        tasks = (writer, reader, ending, stale)
        lost, reason = True, BROKE
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            error = reader.exception() if reader.done() else None
            if isinstance(error, ProtocolError):
                reason = f"broke the protocol: {error}"
            elif isinstance(error, TransportBroken):
                reason = str(error)
            elif ending.done() or (reader.done() and error is None and reader.result()):
                lost, reason = False, "has closed its transport"
        finally:
            for task in tasks:
                task.cancel()
            self._part(role, lost and not self._closed, reason)  # first: the tasks of a broken connection may take long
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._why:  # as a packet, too: at a peer that is writing gRPC may lose the status
            with suppress(grpc.aio.InternalError):  # the write that was cancelled may still be under way
                await context.write(head_of(IS_LOST, self._role, b"") + f"is gone: {self._why}".encode())
            await context.abort(grpc.StatusCode.ABORTED, self._why)

    async def _admit(self, context: Any) -> RoleId:
        """Who joins; ends the stream with a reason if it may not."""
        shown = {key: value for key, value in context.invocation_metadata() if key.startswith("fedsim-")}
        said = (text(shown.get(f"fedsim-{name}-bin")) for name in HELLO_FIELDS)
        role, token, digest, holder, process, clock = said
        shows = Pass(token, digest, holder or role, process)
        if refusal := self._refusal(role, shows, context):
            self._refusals.note(context.peer(), role, refusal[1])
            await context.abort(*refusal)
        if self._here[role].is_set():
            self._stale[role].set()
            await context.abort(_STILL_OPEN, f"the earlier connection of {role} was still open here")
        self._here[role].set()
        self._processes[role] = process
        self._came.add(holder)
        self._admitted(role, shows.holder)
        if ahead := _ahead(clock):
            self._notice(
                f"{role}'s clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {self._role}'s: certificates "
                "hold from one time to another, and logs are compared by time; set it"
            )
        return role

    def _refusal(self, role: RoleId, shown: Pass, context: Any) -> tuple[grpc.StatusCode, str] | None:
        """Why this role may not join, or None."""
        mine, digest = self._admits.digest[:8], shown.digest
        lent = shown.holder != role and (shown.holder in self._queues or shown.holder in self._came)
        expected = token_of(self._admits.token, shown.holder)
        if lent or not hmac.compare_digest(shown.token.encode(), expected.encode()):
            return grpc.StatusCode.UNAUTHENTICATED, "wrong token: not the one of this seat in this run"
        if self._certified and shown.holder not in (names := _names(context)):
            found = ", ".join(names) or "nobody"
            return grpc.StatusCode.UNAUTHENTICATED, f"wrong certificate: it names {found:.80}, not {shown.holder:.80}"
        if digest != self._admits.digest:
            return grpc.StatusCode.FAILED_PRECONDITION, f"it plays scenario {digest[:8]}, not {mine}: not the same file"
        if role not in self._queues:
            return grpc.StatusCode.NOT_FOUND, f"no seat '{role}' to join; allowed: {', '.join(self._queues)}"
        again = shown.process and shown.process == self._processes.get(role)
        if self._here[role].is_set() and not again:
            return grpc.StatusCode.ALREADY_EXISTS, f"seat {role} is taken: another process has joined as it"
        return None

    async def _read(self, role: RoleId, read: Callable[[], Awaitable[Any]]) -> bool:
        """Take what a seat sends: its frames for this seat, and those for others, in its name; whether it ends with a word."""
        packet = await timely(read, GREETING, "it has joined and says nothing")
        while packet is not grpc.aio.EOF:
            what, dst, frame = await unpacked(packet, read)
            if what == HAS_LEFT and dst == role:
                return True
            if what == IS_LOST and dst == role:
                raise TransportBroken(f"has given up: {text(frame):.200}")
            if what != IS_FRAME or (dst != self._role and dst not in self._queues) or dst == role:
                raise ProtocolError(f"a packet of kind {what} for '{dst:.80}'")
            if dst == self._role:
                await self._deliver(role, frame)
            else:
                await self._queues[dst].put(head_of(IS_FRAME, role, frame), frame)
            packet = await read()
        return False

    def _part(self, role: RoleId, lost: bool, reason: str) -> None:
        """Note that a seat is gone, and tell the others."""
        self._queues[role].end()
        self._miss(role, lost, reason)
        self._left[role].set()
        for peer, queue in self._queues.items():
            if peer not in self._gone:
                queue.put_now(head_of(IS_LOST if lost else HAS_LEFT, role, b"") + reason.encode())


class Spoke(End):
    """The end of the stream at a seat other than the hub."""

    def __init__(self, role: RoleId, hub: RoleId, channel: grpc.aio.Channel, call: Any) -> None:
        super().__init__(role)
        self._hub, self._channel, self._call = hub, channel, call
        self._queue = Queue()
        self._writer = asyncio.create_task(self._queue.drain(call.write))
        self._reader = asyncio.create_task(self._read())

    @staticmethod
    async def connect(
        role: RoleId,
        hub: RoleId,
        address: str,
        shows: Pass,
        seconds: float,
        identity: Identity | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Spoke:
        """Join the seat ``hub`` that listens at ``address``; it may start later than this one.

        Args:
            role: this seat.
            hub: the seat to join.
            address: ``host:port``.
            shows: what the hub is to compare.
            seconds: to wait for the hub.
            identity: for TLS.
            clock: this seat's, in seconds since 1970.

        Raises:
            ConfigError: the address has another form than ``host:port``.
            TransportBroken: nobody answers within ``seconds``.
            ProtocolError: the hub refuses this seat, or is not the one that this seat trusts; says why.
        """
        split_address(address)
        channel = _channel(address, identity)
        try:
            async with asyncio.timeout(seconds):
                if why := await knock(address, identity):
                    await channel.close()
                    raise ProtocolError(f"{role} cannot join {hub} at {address}: {why}")
                call = await _joined(channel, role, shows, clock)
        except TimeoutError:
            await channel.close()
            reason = await asyncio.to_thread(explain_connect, address, CONNECT_TIMEOUT_S)
            told = f": {reason}" if reason else ""
            raise TransportBroken(f"{hub} does not answer at {address} within {seconds:g} s{told}") from None
        except grpc.aio.AioRpcError as error:
            await channel.close()
            if error.code() in _HUNG_UP:
                raise TransportBroken(f"{hub} at {address} is gone: {_told(error)}") from error
            raise ProtocolError(f"{hub} at {address} refuses {role}: {_told(error)}") from error
        return Spoke(role, hub, channel, call)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        if not self._close():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await self._queue.put(head_of(HAS_LEFT, self._role, b""))  # a stream that just ends is one that broke
                await self._queue.empty()
                self._writer.cancel()
                if not self._call.done():
                    await self._call.done_writing()
                await self._reader  # the hub ends the stream when it has read all
        await self._end()

    async def abort(self, why: str = "") -> None:
        """Close at once, as something that went wrong: all take this seat for lost, and are told why if there is a word."""
        self._close()
        if why and not self._call.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    self._queue.put_now(head_of(IS_LOST, self._role, b"") + why.encode())
                    await self._reader  # the hub ends the stream when it has read that
        self._call.cancel()
        await self._end()

    async def _end(self) -> None:
        self._writer.cancel()
        self._reader.cancel()
        await asyncio.gather(self._writer, self._reader, return_exceptions=True)
        await self._channel.close()

    def _way(self, dst: RoleId) -> Queue:
        return self._queue

    def _label(self, dst: RoleId) -> RoleId:
        return dst

    def _deserted(self) -> bool:
        return self._hub in self._gone

    async def _read(self) -> None:
        """Take what the hub sends, its own frames and those of others, until it ends the stream."""
        lost, reason = False, "has closed its transport"
        try:
            while (packet := await self._call.read()) is not grpc.aio.EOF:
                what, role, frame = await unpacked(packet, self._call.read)
                if what == IS_FRAME:
                    await self._deliver(role, frame)
                else:
                    self._miss(role, what == IS_LOST, text(frame[: 4 * MOST_TOLD])[:MOST_TOLD])
        except grpc.aio.AioRpcError as error:
            lost, reason = True, f"is gone: {_told(error)}"
        except ProtocolError as error:
            lost, reason = True, f"broke the protocol: {error}"
        self._queue.end()
        self._miss(self._hub, lost, reason)


def _porch() -> list[tuple[str, int]]:
    """What a hub allows those that have not joined yet: little time, and room for so many."""
    most, wait = resource.getrlimit(resource.RLIMIT_NOFILE)[0], round(1000 * HELLO)
    return [
        ("grpc.server_handshake_timeout_ms", wait),
        ("grpc.max_connection_idle_ms", wait),
        ("grpc.max_allowed_incoming_connections", CROWD if most == resource.RLIM_INFINITY else min(most // 2, CROWD)),
    ]


def _channel(address: str, identity: Identity | None) -> grpc.aio.Channel:
    if identity is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(identity.ca, identity.key, identity.certificate)
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


async def _joined(channel: grpc.aio.Channel, role: RoleId, shows: Pass, clock: Callable[[], float]) -> Any:
    """The stream of a seat that has joined; while the hub still winds up this seat's earlier connection, it asks again."""
    dropped = False
    while True:
        await channel.channel_ready()
        said = (role, shows.token, shows.digest, shows.holder, shows.process, str(clock()))
        call = channel.stream_stream(f"/{_SERVICE}/{_METHOD}")(
            metadata=tuple((f"fedsim-{key}-bin", value.encode()) for key, value in zip(HELLO_FIELDS, said, strict=True))
        )
        try:
            await call.read()
            return call
        except grpc.aio.AioRpcError as error:
            dropped = dropped or error.code() is _STILL_OPEN
            if not dropped or error.code() not in (_STILL_OPEN, *_HUNG_UP):
                raise
        await asyncio.sleep(JOIN_AGAIN)


def _ahead(clock: str) -> float:
    """By how many seconds a clock is ahead of this seat's, negative if it is behind; 0 if that is little, or no time."""
    try:
        ahead = float(clock) - time.time()
    except ValueError:
        return 0.0
    return ahead if math.isfinite(ahead) and abs(ahead) > SKEW else 0.0


def _names(context: Any) -> list[str]:
    """Whom the certificate that a peer has shown is for."""
    return [text(name) for name in context.auth_context().get("x509_common_name", ())]


def _told(error: grpc.aio.AioRpcError) -> str:
    """What gRPC says of an end, in one line."""
    return replace_harmful(" ".join((error.details() or error.code().name).split()))[:MOST_TOLD]
