"""A party that is not there."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from fedsim.parties.wrappers._around import Around, Told, bottom_of
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Wrapper
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.schedule import Turn, pass_over


class Absent(Wrapper):
    """On held-out and new rows the mean of the party's embeddings of its training rows stands in for each of its embeddings.

    It is what a hub can go on with that has noted that mean; nothing of the row itself is in it.
    """

    resumes: ClassVar[bool] = True

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, self._begin)

    def _begin(self, role: Role) -> Told:
        bottom = bottom_of(role, self.kind())

        @cache  # at the first held-out turn, when the weights are as they will be
        def mean(trained: int) -> Tensor:
            return _mean(bottom, trained)

        def stand_in(z: Tensor, turn: Turn) -> Tensor:
            return mean(turn.index).expand_as(z).clone()

        bottom.replies.append(stand_in)
        return lambda: {"kind": self.kind(), "numbers": {}, "changes": []}


def _mean(bottom: Bottom, trained: int) -> Tensor:
    """Of the embeddings of all training rows after so many training steps, (E,)."""
    turns = pass_over("train", len(bottom.features["train"]), index=trained)
    with torch.no_grad():
        return torch.cat([bottom.network.infer(bottom.rows(turn)) for turn in turns]).mean(dim=0)
