"""The models against which records are moved towards another one's embedding: rehearsals of several ages."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedsim.message import RoleId
from fedsim.parties.rehearsal import Rehearsal, Rehearse
from fedsim.seeding import Rng

Rows = Mapping[RoleId, Tensor]
"""By party, rows of its slice, (n, ...)."""


class Crew:
    """Rehearsals at ages spread over a whole training; one that has come to its end begins anew.

    Huang et al., MetaPoison, NeurIPS 2020, section 2.3: poison that is made against one age of a model is of use at no other.
    """

    def __init__(self, rehearse: Rehearse, train: Rows, labels: Tensor, models: int, rng: Rng) -> None:
        self._rehearse, self._train, self._labels, self._rng = rehearse, train, labels, rng
        self._begun = 0
        self.members = [self._new() for _ in range(models)]
        self.steps = self.members[0].steps
        for k, member in enumerate(self.members):
            member.play(k * self.steps // models)

    def _new(self) -> Rehearsal:
        self._begun += 1
        return self._rehearse(self._train, self._labels, self._rng.child(self._begun))

    def train(self, rows: Rows, steps: int) -> None:
        """Go on, with other training rows."""
        self._train = rows
        for k, member in enumerate(self.members):
            member.take(rows)
            member.play(steps)
            if member.steps == 0:
                self.members[k] = self._new()

    def distance(self, party: RoleId, rows: Tensor, aim: Tensor) -> Tensor:
        """How far rows (n, ...) are embedded from one, (1, ...): squared, summed over rows, mean over members."""
        gaps = [(member.embed(party, rows) - member.embed(party, aim)).square().sum() for member in self.members]
        return torch.stack(gaps).mean()
