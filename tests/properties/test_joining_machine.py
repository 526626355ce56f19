"""Joining, leaving, giving up and meeting again as a state machine, over real streams: no seat taken twice, no frame lost."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from fedsim.errors import ProtocolError, TransportBroken
from fedsim.message import RoleId
from fedsim.transport.grpc import Hub, Pass, Spoke, token_of

T = TypeVar("T")
HUB, PEERS = "server", ("north", "east")
ROSTER = (HUB, *PEERS)
ADMITS = Pass("the token of the run", "d" * 64)
PATIENCE = 120.0
LOOP = asyncio.new_event_loop()
"""One for all, as gRPC's own threads still write to that of a machine which is over."""


class Joining(RuleBasedStateMachine):
    """Two seats join a hub, send, leave, give up; strangers try; the hub gives up and listens again at the same address.

    Attributes:
        seats: the ends that are open, by role.
        came: who has ever joined this hub.
        gone: who has left or given up; nobody writes to it any more.
        lost: who has given up without a word of farewell, as the others may tell it.
        due: by addressee and sender, frames that were sent and not yet received, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self._listen("127.0.0.1:0")

    def _listen(self, address: str) -> None:
        self.refused: list[str] = []
        hub = self._do(Hub.listen(HUB, ROSTER, ADMITS, address, notice=self.refused.append))
        self.address = hub.address
        self.seats: dict[RoleId, Hub | Spoke] = {HUB: hub}
        self.came: set[RoleId] = set()
        self.gone: set[RoleId] = set()
        self.lost: dict[RoleId, str] = {}
        self.due: defaultdict[RoleId, dict[RoleId, deque[bytes]]] = defaultdict(lambda: defaultdict(deque))

    def _do(self, doing: Coroutine[Any, Any, T]) -> T:
        return LOOP.run_until_complete(asyncio.wait_for(doing, PATIENCE))

    def _connect(self, role: RoleId, token: str) -> Spoke:
        return self._do(Spoke.connect(role, HUB, self.address, Pass(token, ADMITS.digest), PATIENCE))

    @precondition(lambda self: self.came != set(PEERS))
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        """A seat that has not joined is let in."""
        role = data.draw(st.sampled_from([peer for peer in PEERS if peer not in self.came]))
        self.seats[role] = self._connect(role, token_of(ADMITS.token, role))
        self.came.add(role)

    @precondition(lambda self: self.came)
    @rule(data=st.data())
    def join_again(self, data: st.DataObject) -> None:
        """A seat that has joined is taken, whether its process is there or not."""
        role = data.draw(st.sampled_from(sorted(self.came)))
        with pytest.raises(ProtocolError, match=f"refuses {role}: seat {role} is taken"):
            self._connect(role, token_of(ADMITS.token, role))

    @rule(role=st.sampled_from(PEERS))
    def try_to_join(self, role: RoleId) -> None:
        """With the token of another seat nobody gets in."""
        other = PEERS[1 - PEERS.index(role)]
        with pytest.raises(ProtocolError, match=f"refuses {role}: wrong token"):
            self._connect(role, token_of(ADMITS.token, other))
        assert len([line for line in self.refused if f"as '{role}': wrong token" in line]) == 1

    @precondition(lambda self: not self.lost and len(self.gone) < len(PEERS))
    @rule(data=st.data(), size=st.sampled_from([1, 300_000]))
    def send(self, data: st.DataObject, size: int) -> None:
        """A seat sends to one that has not gone, and may still come."""
        frm = data.draw(st.sampled_from(sorted(self.seats)))
        to = data.draw(st.sampled_from([role for role in ROSTER if role != frm and role not in self.gone]))
        self.sent += 1
        frame = self.sent.to_bytes(4, "big") * size
        self._do(self.seats[frm].send(to, frame))
        self.due[to][frm].append(frame)

    @precondition(lambda self: self._waiting())
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        """What was sent arrives once, in the order of its sender, unless somebody was lost: then it is that, by name."""
        role = data.draw(st.sampled_from(self._waiting()))
        if self.lost:
            self._is_told(role, *self.lost.values())
            return
        frm, frame = self._do(self.seats[role].recv())
        assert frame == self.due[role][frm].popleft()

    @precondition(lambda self: len(self.seats) > 1 and not self.lost)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A seat closes: what it has sent still arrives, and it counts as no loss."""
        role = data.draw(st.sampled_from(sorted(self.seats.keys() - {HUB})))
        self._do(self.seats.pop(role).aclose())
        self.gone.add(role)

    @precondition(lambda self: len(self.seats) > 1 and not self.lost)
    @rule(data=st.data(), why=st.sampled_from(["", "it failed with DataError"]))
    def give_up(self, data: st.DataObject, why: str) -> None:
        """A seat gives up: all others are told, by name and with the reason if there is one."""
        role = data.draw(st.sampled_from(sorted(self.seats.keys() - {HUB})))
        self._do(self.seats.pop(role).abort(why))
        self.gone.add(role)
        self.lost[role] = f"{role} has given up: {why}" if why else f"{role} is gone: its connection broke"
        for other in self.seats:
            self._is_told(other, self.lost[role])

    @rule(why=st.sampled_from(["north did not connect", ""]))
    def meet_again(self, why: str) -> None:
        """The hub gives up, all seats hear of it, and a new one at the same address lets everybody in anew."""
        self._do(self.seats.pop(HUB).abort(why))
        for role in self.seats:
            if not self.lost:
                self._is_told(role, f"{HUB} is gone: {why}")
            self._do(self.seats[role].abort())
        self._listen(self.address)

    def teardown(self) -> None:
        for seat in self.seats.values():
            self._do(seat.abort())

    def _is_told(self, role: RoleId, why: str) -> None:
        """After what is here already comes the loss."""

        async def told() -> None:
            while True:
                frm, frame = await self.seats[role].recv()
                assert frame == self.due[role][frm].popleft()

        with pytest.raises(TransportBroken, match=re.escape(why)):
            self._do(told())

    def _waiting(self) -> list[RoleId]:
        return [role for role in sorted(self.seats) if any(self.due[role].values())]


TestJoining = Joining.TestCase
TestJoining.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
