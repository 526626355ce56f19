"""Who was not let in, and why: each is told of once, however often it tries."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from fedsim.message import RoleId

MOST = 16
"""How many are told of at most: who tries under ever new names is not to fill a terminal, nor a memory."""


class Refusals:
    """Who was refused, by host, role and reason.

    Attributes:
        lines: one for each, in the order in which they came.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.lines: list[str] = []
        self._notice = notice

    def note(self, peer: str, role: RoleId, why: str) -> None:
        """Note one; ``peer`` is its address as gRPC writes it, ``ipv4:10.0.0.7:41234``."""
        host = unquote(peer.partition(":")[2].rpartition(":")[0])
        line = f"{host} as '{role:.80}': {why}"
        if line in self.lines or len(self.lines) == MOST:
            return
        self.lines.append(line)
        self._notice(f"refused: {line}{'; from here on nobody else is told of' if len(self.lines) == MOST else ''}")
