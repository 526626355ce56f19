"""The session of a seat as a state machine: whatever the way does to frames, a role sees each message once, as it was sent."""

from __future__ import annotations

import asyncio
import re
from collections import deque

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fedsim.errors import ProtocolError, StallError, TransportLate, WireError
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.vfl.messages import Embedding, Gradient
from fedsim.wire import Envelope, encode

PEERS = ("a", "b")
KINDS = (Embedding, Gradient)


class Way:
    """A transport that hands out what the machine has put there."""

    def __init__(self) -> None:
        self.arrived: deque[tuple[RoleId, bytes]] = deque()

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """Not used."""

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        if not self.arrived:
            raise StallError("nothing more")
        return self.arrived.popleft()

    async def aclose(self) -> None:
        """Nothing."""


class Session(RuleBasedStateMachine):
    """Two peers send numbered messages; the way delays, reorders, doubles, forges and loses them; a role asks for some."""

    def __init__(self) -> None:
        super().__init__()
        self.way = Way()
        self.net = Net("me", "me", ("me", *PEERS), self.way)
        self.seq = dict.fromkeys(PEERS, 0)
        self.sent: dict[tuple[str, str, int], float] = {}
        self.under_way: list[tuple[RoleId, bytes]] = []
        self.delivered: list[tuple[RoleId, bytes]] = []
        self.here: set[tuple[str, str, int]] = set()
        self.keys: dict[bytes, tuple[str, str, int]] = {}
        self.taken: set[tuple[str, str, int]] = set()
        self.over = False

    @precondition(lambda self: self.over)
    @rule()
    def rest(self) -> None:
        """Once a session has ended with an error nothing more is asked of it."""

    @precondition(lambda self: not self.over)
    @rule(peer=st.sampled_from(PEERS), kind=st.sampled_from(KINDS), step=st.integers(0, 4))
    def send(self, peer: str, kind: type[Embedding] | type[Gradient], step: int) -> None:
        """A peer sends a message that it has not sent yet."""
        key = (peer, kind.__name__, step)
        if key in self.sent:
            return
        self.sent[key] = float(len(self.sent))
        message = kind(step, torch.tensor([self.sent[key]]))
        frame = encode(Envelope(peer, "me", self.seq[peer], message))
        self.seq[peer] += 1
        self.keys[frame] = key
        self.under_way.append((peer, frame))

    @precondition(lambda self: self.under_way and not self.over)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """Any frame that is under way arrives, in whatever order."""
        peer, frame = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.way.arrived.append((peer, frame))
        self.delivered.append((peer, frame))
        self.here.add(self.keys[frame])

    @precondition(lambda self: self.here - self.taken and not self.over)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        """The role gets what is here, as it was sent, whatever came before it."""
        key = data.draw(st.sampled_from(sorted(self.here - self.taken)))
        message = asyncio.run(self._recv(key))
        value = message.z if isinstance(message, Embedding) else message.g  # type: ignore[attr-defined]
        assert value.tolist() == [self.sent[key]]
        self.taken.add(key)

    @precondition(lambda self: not self.over)
    @rule(peer=st.sampled_from(PEERS), kind=st.sampled_from(KINDS), step=st.integers(0, 4))
    def ask_in_vain(self, peer: str, kind: type[Embedding] | type[Gradient], step: int) -> None:
        """What is not here, or was taken, is waited for: it comes neither early nor twice."""
        key = (peer, kind.__name__, step)
        if key in self.here - self.taken:
            return
        self._refused(key, StallError, TransportLate)

    @precondition(lambda self: self.delivered and not self.over)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """A frame comes a second time: the session ends, by name."""
        peer, frame = data.draw(st.sampled_from(self.delivered))
        self.way.arrived.append((peer, frame))
        self._ends(ProtocolError, f"{peer} sent frame")

    @precondition(lambda self: self.under_way and not self.over)
    @rule(data=st.data())
    def forge(self, data: st.DataObject) -> None:
        """A frame comes on the stream of another peer: the same."""
        peer, frame = data.draw(st.sampled_from(self.under_way))
        other = PEERS[1 - PEERS.index(peer)]
        self.way.arrived.append((other, frame))
        self._ends(ProtocolError, f"{other} sent a frame from '{peer}'")

    @precondition(lambda self: self.under_way and not self.over)
    @rule(data=st.data(), share=st.floats(0, 0.99))
    def cut(self, data: st.DataObject, share: float) -> None:
        """A frame comes cut off: the same."""
        peer, frame = data.draw(st.sampled_from(self.under_way))
        self.way.arrived.append((peer, frame[: int(share * len(frame))]))
        self._ends(WireError, f"{peer} sent what me cannot read")

    @invariant()
    def nothing_is_lost(self) -> None:
        """All that has arrived was taken, lies in the mailbox, or waits to be read."""
        held = self.here - self.taken
        unread = {self.keys[frame] for _, frame in self.way.arrived if frame in self.keys}
        kept = {(peer, kind, step) for peer, kind, step in self.net._mailbox._messages}
        assert self.over or held <= kept | unread

    def _ends(self, kind: type[Exception], words: str) -> None:
        with pytest.raises(kind, match=re.escape(words)):
            asyncio.run(self._recv(("a", "Embedding", 99)))
        self.over = True

    def _refused(self, key: tuple[str, str, int], *kinds: type[Exception]) -> None:
        with pytest.raises(kinds, match=f"{key[1]} of step {key[2]} from {key[0]}"):
            asyncio.run(self._recv(key))

    async def _recv(self, key: tuple[str, str, int]) -> object:
        kind = Embedding if key[1] == "Embedding" else Gradient
        return await self.net.recv(key[0], kind, key[2])


TestSession = Session.TestCase
TestSession.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
