"""Show what seats in Ray actors log while they train."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from fedsim.message import RoleId
from fedsim.runtime._crew import Crew

ANSWER_TIMEOUT_S = 120.0
"""The time within which an actor that lives hands out its rows, on a machine that is busy."""


class SeatLog:
    """What the seats log, in order. Rows that an actor has handed out are nowhere else, so every answer is waited for."""

    def __init__(self, actors: Mapping[RoleId, Any], crew: Crew, ray: Any) -> None:
        self._actors, self._crew, self._ray = dict(actors), crew, ray
        self._asked: dict[RoleId, Any] = {}

    def show(self, timeout_s: float) -> None:
        """Show the rows of the seats that answer within the time; the other answers are taken the next time."""
        for role, actor in self._actors.items():
            if role not in self._asked:
                self._asked[role] = actor.rows.remote()
        if not (refs := list(self._asked.values())):
            return
        there, _ = self._ray.wait(refs, num_returns=len(refs), timeout=timeout_s)
        for role in [role for role, ref in self._asked.items() if ref in there]:
            self._take(role)

    def finish(self, role: RoleId) -> None:
        """Show all that a seat still has to say, once it has played; no more is asked of it."""
        if role in self._asked:
            self._take(role)
        self._asked[role] = self._actors[role].rows.remote()
        self._take(role)
        del self._actors[role]

    def _take(self, role: RoleId) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):  # what became of the seat is told by its play
            for row in json.loads(self._ray.get(self._asked.pop(role), timeout=ANSWER_TIMEOUT_S)):
                self._crew.watch(role, row)
