"""Messages that have arrived and are not yet asked for, keyed by peer, kind and step.

The order of delivery therefore cannot change a result; replays are refused and what a peer may send ahead is bounded, in
messages and in bytes.
"""

from __future__ import annotations

from collections import Counter

from fedsim.errors import ProtocolError
from fedsim.message import Message, RoleId
from fedsim.wire import Envelope

Key = tuple[RoleId, str, int]
AHEAD = 256 << 20
"""Bytes of frames that a peer may send ahead, and one frame more: beyond this nobody's memory is for it to fill."""


class Mailbox:
    """Holds at most ``window`` messages a peer and `AHEAD` bytes of theirs, and accepts each frame number of a peer once."""

    def __init__(self, window: int = 1024) -> None:
        self.window = window
        self._messages: dict[Key, tuple[Message, int]] = {}
        self._waiting: Counter[RoleId] = Counter()
        self._size: Counter[RoleId] = Counter()
        self._next: Counter[RoleId] = Counter()
        self._early: dict[RoleId, set[int]] = {}
        self._forgone: set[Key] = set()

    def put(self, envelope: Envelope, size: int = 0) -> None:
        """Keep a message until it is taken; its frame has ``size`` bytes.

        Raises:
            ProtocolError: a replay, a second message of the same peer, kind and step, or too many untaken ones.
        """
        peer = envelope.src
        self._admit(peer, envelope.seq)
        key = (peer, type(envelope.message).__name__, envelope.message.step)
        if key in self._forgone:
            self._forgone.remove(key)
            return
        if key in self._messages:
            raise ProtocolError(f"{peer} sent {key[1]} of step {key[2]} twice")
        if self._waiting[peer] >= self.window:
            raise ProtocolError(f"{peer} is more than {self.window} messages ahead")
        if self._size[peer] > AHEAD:
            raise ProtocolError(f"{peer} is more than {AHEAD >> 20} MiB ahead")
        self._waiting[peer] += 1
        self._size[peer] += size
        self._messages[key] = envelope.message, size

    def take(self, key: Key) -> Message | None:
        """Hand out the message, once; None if it is not there yet."""
        if key not in self._messages:
            return None
        message, size = self._messages.pop(key)
        self._waiting[key[0]] -= 1
        self._size[key[0]] -= size
        return message

    def first(self, peer: RoleId) -> Key | None:
        """The oldest message of a peer that nobody has asked for."""
        return next((key for key in self._messages if key[0] == peer), None) if self._waiting[peer] else None

    def forgo(self, key: Key) -> None:
        """Throw the message away when it comes; it is not there yet."""
        self._forgone.add(key)

    def _admit(self, peer: RoleId, seq: int) -> None:
        expected = self._next[peer]
        if seq == expected and not self._early.get(peer):  # the common case, in order
            self._next[peer] += 1
            return
        early = self._early.setdefault(peer, set())
        if seq < expected or seq in early:
            raise ProtocolError(f"{peer} sent frame {seq} again")
        if seq >= expected + self.window:
            raise ProtocolError(f"{peer} sent frame {seq}, more than {self.window} ahead of {expected}")
        early.add(seq)
        while self._next[peer] in early:
            early.remove(self._next[peer])
            self._next[peer] += 1
