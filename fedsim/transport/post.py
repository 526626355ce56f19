"""Frames in the post: for a network in which a seat is not reached but now and then, by a message that it answers.

A seat lives only while it answers, so each time it plays again from the start over all that has come so far; a run is the same
every time, so it gets where it was, and goes on until it waits for what has not come.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from fedsim.errors import ProtocolError, StallError, TransportLate
from fedsim.message import RoleId

Mail = Sequence[tuple[RoleId, bytes]]
"""Frames with whom they come from, or whom they are for."""
Exchange = Callable[[Mapping[RoleId, Mail]], Awaitable[Mapping[RoleId, Mail]]]
"""Brings seats their mail; what each of them answers is mail for others."""
_decode = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class Waiting(Exception):
    """A seat has read all its mail and waits for more."""


def pack(mail: Mail) -> bytes:
    """Mail as bytes."""
    return msgspec.msgpack.encode(list(mail))


def unpack(block: bytes) -> list[tuple[RoleId, bytes]]:
    """What `pack` wrote; ProtocolError if it is not."""
    try:
        return _decode(block)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"not mail: {error}") from error


class Replay:
    """A seat's end of the post, over all mail that has come so far.

    Attributes:
        sent: all mail that the seat has sent since the start.
    """

    def __init__(self, come: Mail) -> None:
        self.sent: list[tuple[RoleId, bytes]] = []
        self._come = deque(come)

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """See `Transport.send`."""
        self.sent.append((dst, frame))

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        """See `Transport.recv`; raises `Waiting` when all has been read, for here no time passes."""
        if not self._come:
            raise Waiting
        return self._come.popleft()

    async def aclose(self) -> None:
        """See `Transport.aclose`."""

    def news(self, before: int, mark: str) -> list[tuple[RoleId, bytes]]:
        """What was sent beyond the first ``before`` frames, which must be those of this ``mark``.

        Raises:
            ProtocolError: the seat has not played as it did before.
        """
        if marked(self.sent[:before]) != mark:
            raise ProtocolError(
                "a seat that plays again sends other frames than before: its data or its machine changed"
            )
        return self.sent[before:]


def marked(mail: Mail) -> str:
    """SHA-256 of mail, hexadecimal."""
    return hashlib.sha256(pack(mail)).hexdigest()


class PostOffice:
    """The hub's end: it brings everyone's mail, whoever it is from, whenever the hub waits."""

    def __init__(self, hub: RoleId, others: Iterable[RoleId], exchange: Exchange) -> None:
        self._hub, self._exchange = hub, exchange
        self._come: deque[tuple[RoleId, bytes]] = deque()
        self._post: dict[RoleId, list[tuple[RoleId, bytes]]] = {role: [] for role in others}

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """See `Transport.send`."""
        self._post[dst].append((self._hub, frame))

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        """See `Transport.recv`."""
        while not self._come:
            if not await self.deliver():
                if within is not None:
                    raise TransportLate("every seat waits")
                raise StallError("every seat waits")
        return self._come.popleft()

    async def aclose(self) -> None:
        """See `Transport.aclose`."""

    async def deliver(self) -> bool:
        """Bring all mail that there is and take the answers; False if there was none."""
        post = {role: mail for role, mail in self._post.items() if mail}
        self._post.update({role: [] for role in post})
        if post:
            self.take(await self._exchange(post))
        return bool(post)

    def take(self, answers: Mapping[RoleId, Mail]) -> None:
        """Sort what seats have sent: for the hub, or for another seat.

        Raises:
            ProtocolError: it is for nobody.
        """
        for role, mail in answers.items():
            for dst, frame in mail:
                if dst == self._hub:
                    self._come.append((role, frame))
                elif dst in self._post and dst != role:
                    self._post[dst].append((role, frame))
                else:
                    raise ProtocolError(f"{role} sent mail for '{dst:.40}', who is not here")
