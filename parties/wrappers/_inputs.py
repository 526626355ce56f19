"""Corrupted inputs: what befalls the features of one party on their way to its bottom."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, partial
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from fedsim.parties.wrappers._around import Around, Told, bottom_of
from fedsim.parties.wrappers._weights import When, check_step
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Wrapper
from fedsim.vfl.bottom import Features
from fedsim.vfl.schedule import Turn


class InputFault(Wrapper, ABC):
    """A fault of what a party measures. A row is corrupted in the same way whenever it is read."""

    resumes: ClassVar[bool] = True

    at: When = Field(
        "inference", description="inference: held-out and new rows only; or the training step from which on, all rows"
    )

    @abstractmethod
    def corrupt(self, rows: Tensor, rng: Rng) -> Tensor:
        """All rows of one purpose, (N, ...), as they are measured; encoded: columns are standardised, pixels in [0, 1]."""

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, lambda inside: self._begin(inside, rng))

    def _begin(self, role: Role, rng: Rng) -> Told:
        bottom = bottom_of(role, self.kind())
        check_step(self.kind(), self.at, role)

        @cache  # at the first turn all rows are there, also those that a prologue has entered
        def spoilt() -> Features:
            return {p: self.corrupt(rows, rng.child(p)) for p, rows in bottom.features.items()}

        bottom.distortions.append(partial(self._measured, spoilt))
        return lambda: {"kind": self.kind(), "numbers": _differences(spoilt(), bottom.features), "changes": []}

    def _measured(self, spoilt: Callable[[], Features], rows: Tensor, turn: Turn) -> Tensor:
        begun = turn.purpose != "train" if self.at == "inference" else turn.index >= self.at
        return spoilt()[turn.purpose].index_select(0, turn.rows) if begun else rows


def _differences(spoilt: Features, healthy: Features) -> dict[str, float]:
    moved = max(float((spoilt[p] - rows).abs().max()) for p, rows in healthy.items() if len(rows))
    rows = sum(int((spoilt[p] != r).flatten(1).any(1).sum()) for p, r in healthy.items())
    return {"largest change": moved, "rows that differ": rows}
