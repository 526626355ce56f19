"""Parties whose embeddings do not come in time: what the hub trains with in their place, by the policy that the file names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fedsim.errors import TransportLate
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.vfl.messages import Embedding
from fedsim.vfl.schedule import Turn
from fedsim.vfl.sound import sound

Sends = Callable[[Turn, RoleId], tuple[int, int]]
"""The shape (B, E) of the embedding that a party has to send for a turn."""


class Absences:
    """What stands in for an embedding: nothing but zeros (drop), or the mean of all that the party has sent (impute).

    Attributes:
        away: who was missing in the last turn; no gradient of theirs is worth anything.
    """

    def __init__(self, sends: Sends) -> None:
        self._sends = sends
        self.away: list[RoleId] = []
        self._sums: dict[str, Tensor] = {}
        self._rows: Counter[str] = Counter()

    def begin(self) -> None:
        """A turn begins, and nobody is missing yet."""
        self.away = []

    async def embedding(self, turn: Turn, net: Net, party: RoleId) -> Tensor:
        """What a party sends for a turn, (B, E), or what stands in for it.

        Raises:
            TransportLate: it is missing, and the policy is ``error``; or it is ``impute``, and nothing has come from it yet.
            ProtocolError: see `sound`.
        """
        missing = net.missing.get(party)
        if missing is None:
            return await self._heard(turn, net, party)
        try:
            z = await self._heard(turn, net, party, missing.after)
        except TransportLate as late:
            if missing.policy == "error":
                raise
            if missing.policy == "wait":
                net.show({"notice": f"{late}; waits on"})
                return await self._heard(turn, net, party)
            return self._instead(turn, net, party, late)
        if missing.policy == "impute":
            self._learn(f"{party} {turn.purpose}", z)
        return z

    def note(self, turn: Turn, net: Net) -> None:
        """Log who was missing."""
        if self.away:
            net.log(step=turn.index, missing=list(self.away))

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        return {"sums": dict(self._sums), "rows": dict(self._rows)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `fedsim.state.Lasting`."""
        self._sums, self._rows = dict(state["sums"]), Counter(state["rows"])

    async def _heard(self, turn: Turn, net: Net, party: RoleId, within: float | None = None) -> Tensor:
        message = await net.recv(party, Embedding, turn.step, within)
        return sound(message, party, turn, {"z": self._sends(turn, party)}, finite=turn.purpose == "train").z

    def _learn(self, key: str, z: Tensor) -> None:
        total = z.detach().double().sum(dim=0)
        self._sums[key] = self._sums[key] + total if key in self._sums else total
        self._rows[key] += len(z)

    def _instead(self, turn: Turn, net: Net, party: RoleId, late: TransportLate) -> Tensor:
        key, (rows, width) = f"{party} {turn.purpose}", self._sends(turn, party)
        if net.missing[party].policy == "drop":
            instead = torch.zeros(width)
        elif key in self._sums:
            instead = (self._sums[key] / self._rows[key]).float()
        else:
            raise TransportLate(f"{late}; {party} has sent none before, of which the mean could stand in") from late
        net.forgo(party, Embedding, turn.step)
        self.away.append(party)
        return instead.expand(rows, -1).clone()
