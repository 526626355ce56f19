"""A federation played at one seat: what an attacker that holds the slices of all parties can try out before it acts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fedsim.message import RoleId
from fedsim.parties.learners import Learner
from fedsim.seeding import Rng
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.optimise import Optimiser
from fedsim.vfl.schedule import Schedule, Turn


@dataclass(frozen=True)
class Slices:
    """What every party holds, by party in roster order: its training rows (N, ...) and its held-out rows (M, ...)."""

    train: Mapping[RoleId, Tensor]
    held_out: Mapping[RoleId, Tensor]


class Rehearse(Protocol):
    """Makes an untrained rehearsal; its weights and its batches follow from ``rng``."""

    def __call__(self, train: Mapping[RoleId, Tensor], labels: Tensor, rng: Rng) -> Rehearsal:
        """Over training rows: source, target, and what is entered; ``labels`` (N,) are -1 for the target."""


class Rehearsal:
    """Bottoms and learner of a whole federation, and the training of both as the exchange would have it.

    Attributes:
        bottoms: by party, over its training rows; nothing befalls these on their way.
        steps: training steps that are still to come.
    """

    def __init__(
        self, learner: Learner, bottoms: Mapping[RoleId, Bottom], optimisers: Sequence[Optimiser], schedule: Schedule
    ) -> None:
        self.learner, self.bottoms, self._optimisers = learner, dict(bottoms), list(optimisers)
        self._turns: Iterator[Turn] = (turn for turn in schedule.turns() if turn.purpose == "train")
        self.steps, self._phases = schedule.steps, schedule.phases

    def play(self, steps: int) -> None:
        """So many training steps, or as many as are left."""
        for _ in range(min(steps, self.steps)):
            for _ in range(self._phases):
                self._play(next(self._turns))
            self.steps -= 1

    def _play(self, turn: Turn) -> None:
        gradients = self.learner.step(turn, {party: bottom.forward(turn) for party, bottom in self.bottoms.items()})
        for bottom, optimiser, g in zip(self.bottoms.values(), self._optimisers, gradients.values(), strict=True):
            optimiser.step(bottom.pull_back(g))

    def take(self, rows: Mapping[RoleId, Tensor]) -> None:
        """Go on with other training rows, of the same shape."""
        for party, bottom in self.bottoms.items():
            bottom.features = {**bottom.features, "train": rows[party]}

    def embed(self, party: RoleId, rows: Tensor) -> Tensor:
        """The embedding (n, E) of some rows in use, with its graph."""
        return self.bottoms[party].network.train(rows, Turn(0, 0, "query", torch.arange(len(rows)), quiet=True))

    def label(self, rows: Mapping[RoleId, Tensor]) -> Tensor:
        """What class each row is taken for, (n,)."""
        with torch.no_grad():
            z = torch.cat([self.embed(party, x) for party, x in rows.items()], dim=1)
            return self.learner.logits(z).argmax(dim=1)
