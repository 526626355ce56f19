"""A candidate: a feature party that measures what it would add, as often as it is asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedsim.errors import DataError, ProtocolError
from fedsim.net import Net
from fedsim.parties.arms import Pull, Reward, Truth, Yardstick
from fedsim.parties.features import FeatureParty
from fedsim.seeding import Rng
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import pass_over


class Candidate:
    """What a feature party does after the training.

    Attributes:
        rows: of a pull's mini-batch.
        rng: the public node of this party's mini-batches.
        head: makes the head's network from the width of its input and the number of classes.
        answers: how many blocks of pulls it answers; None: all.
    """

    def __init__(self, rows: int, rng: Rng, head: Callable[[int, int], Network], answers: int | None = None) -> None:
        self.rows, self.rng, self.head, self.answers = rows, rng, head, answers

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """Measure the gain of every row once, then answer pulls until there are no more."""
        yardstick = await net.recv(net.hub, Yardstick, 0)
        gains = self._gains(party.bottom, yardstick)
        step = 0
        while (pull := await net.recv(net.hub, Pull, step)).count:
            if self.answers is None or step < self.answers:
                await net.send(net.hub, Reward(step, self._pulled(gains, pull), purpose="query"))
            step += 1
        if self.answers is None:
            await net.send(net.hub, Truth(step, float(gains.mean()), purpose="query"))

    def _pulled(self, gains: Tensor, pull: Pull) -> Tensor:
        drawn = self.rng.child(pull.first).numpy().integers(len(gains), size=(pull.count, self.rows))
        return torch.from_numpy(gains.numpy()[drawn].mean(axis=1, dtype=np.float64))

    def _gains(self, bottom: Bottom, yardstick: Yardstick) -> Tensor:
        """By how much the loss of each held-out row drops, (n,) float64, nats."""
        held_out = len(bottom.features["evaluate"])
        if not len(yardstick.labels) == len(yardstick.base) == len(yardstick.own) == held_out:
            raise DataError(f"the yardstick is of {len(yardstick.labels)} held-out rows; there are {held_out} here")
        z = torch.cat([bottom.forward(turn) for turn in pass_over("evaluate", held_out)])
        joined = torch.cat([yardstick.own, z], dim=1)
        head = self.head(joined.shape[1], yardstick.classes)
        try:
            head.load(yardstick.head)
        except ValueError as error:
            raise ProtocolError(f"the yardstick's head does not fit: {error}") from error
        logits = head.infer(joined).double()
        return yardstick.base - functional.cross_entropy(logits, yardstick.labels, reduction="none")
