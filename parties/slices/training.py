"""Training a vertical federation against parties that move their own features: one half at each party, one at the hub.

A batch is exchanged several times. In its rehearsals a party that may be malicious sends, behind its embeddings, those of
its rows moved in each ball, and climbs by the gradients that come back; in the last exchange all learn from where that led.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.message import RoleId
from fedsim.minmax.balls import Ball
from fedsim.minmax.guard import Guard
from fedsim.net import Net
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder
from fedsim.vfl.network import Network
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Turn
from fedsim.vfl.top import Learner

Box = tuple[Tensor, Tensor]
"""The least and the largest value of each feature, (D,)."""


class Perturbed:
    """Rows moved in each ball (`fedsim.vfl.bottom.Variants`), each climbing by its own gradient."""

    def __init__(self, balls: Sequence[Ball], box: Box) -> None:
        self._balls, self._box = balls, box
        self._index = -1
        self._rows = torch.empty(0)
        self._moves: list[Tensor] = []

    def around(self, rows: Tensor, turn: Turn) -> Tensor:
        """The rows, then those of each ball, (B (1 + balls), ...)."""
        if turn.index != self._index:
            self._index, self._rows = turn.index, rows.flatten(1)
            self._moves = [torch.zeros_like(self._rows) for _ in self._balls]
        return torch.cat([rows, *(rows + move.view_as(rows) for move in self._moves)])

    def told(self, g: Tensor, turn: Turn) -> None:
        """Take a step, if the same rows come once more; the gradients of clean rows, the first, serve for nothing here."""
        if not turn.rehearsal:
            return
        low, high = (end - self._rows for end in self._box)
        each = torch.split(g.flatten(1), len(self._rows))[1:]
        self._moves = [
            ball.project(move + ball.move(uphill), low.clamp_max(0), high.clamp_min(0))
            for ball, move, uphill in zip(self._balls, self._moves, each, strict=True)
        ]


class GuardedTop(Learner):
    """The hub's half (`fedsim.vfl.top.HubModel`): its loss is a row's losses under every attack by one party, weighed."""

    def __init__(
        self,
        network: Network,
        labels: Tensor,
        optimiser: OptimiserConfig,
        guard: Guard,
        malicious: Sequence[RoleId],
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(network, labels, optimiser)
        self._guard, self._malicious, self._smoothing = guard, tuple(malicious), smoothing

    def step(self, turn: Turn, embeddings: Mapping[RoleId, Tensor]) -> dict[RoleId, Tensor]:
        """The gradient of all that each party sent: of each attack's own loss in a rehearsal, then of the weighed one."""
        shapes = [z.shape for z in embeddings.values()]
        flat = torch.cat([z.flatten() for z in embeddings.values()]).requires_grad_()
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        sent = {party: part.view(shape) for party, part, shape in zip(embeddings, parts, shapes, strict=True)}
        target = self.labels.index_select(0, turn.rows)
        joined = self._attacked(sent, len(target))
        logits = self.network.train(joined.flatten(0, 1), turn)
        every = functional.cross_entropy(
            logits, target.repeat(len(joined)), reduction="none", label_smoothing=self._smoothing
        ).view(len(joined), -1)
        weights = torch.ones_like(every) if turn.rehearsal else self._guard.weights(every.detach())
        loss = (weights * every).sum(dim=0).mean()
        g, grads = self.network.pull_back(loss, inputs=flat)
        assert g is not None
        if not turn.hold:
            self._optimiser.step(grads)
            self.loss = loss.item()
        back = torch.split(g, [shape.numel() for shape in shapes])
        return {party: part.view(shape) for party, part, shape in zip(embeddings, back, shapes, strict=True)}

    def _attacked(self, sent: Mapping[RoleId, Tensor], batch: int) -> Tensor:
        """What the top sees of each attack, (K, B, sum of E): one party's embeddings are moved, all others are as they are."""
        clean = {party: z[:batch] for party, z in sent.items()}
        domains = [
            torch.cat([moved if other == party else z for other, z in clean.items()], dim=1)
            for party in self._malicious
            for moved in torch.split(sent[party], batch)[1:]
        ]
        return torch.stack(domains)


class Posts:
    """The prologue of a guarded federation (`fedsim.parties.vertical.Prologue`): parties take up their halves."""

    def __init__(self, guard: Guard, malicious: bool) -> None:
        self._guard, self._malicious = guard, malicious

    async def at_hub(self, hub: LabelHolder, net: Net) -> None:
        """Nothing: the hub has its half from the start."""

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """Moved rows beside its own, if it may be malicious."""
        if self._malicious:
            party.bottom.variants = Perturbed(self._guard.balls, box(party))


def box(party: FeatureParty) -> Box:
    """What a party's features may be: of images 0 to 1, of columns what its training rows have."""
    rows = party.bottom.features["train"].flatten(1)
    if party.encoder.image is not None:
        return torch.zeros(rows.shape[1]), torch.ones(rows.shape[1])
    return rows.amin(dim=0), rows.amax(dim=0)
