"""How a hub learns from a labelled and an unlabelled domain at once: one learner a file, each after its paper.

Everything of it lies at the hub. Parties run the plain split exchange: they send embeddings of rows of both domains and receive
one gradient, in which the pull towards a common representation is already mixed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.message import RoleId
from fedsim.models import ModelConfig
from fedsim.parties.screening import Screen, Screening
from fedsim.plugins import Plugin
from fedsim.seeding import Rng
from fedsim.vfl.building import build_network
from fedsim.vfl.network import Network, gradients
from fedsim.vfl.optimise import Optimiser, OptimiserConfig
from fedsim.vfl.schedule import Turn


@dataclass(frozen=True)
class Bench:
    """What a learner is made of.

    Attributes:
        head: the model of the head, from the joined embeddings (B, ``width``) to logits (B, ``classes``).
        labels: of the training rows, (N,) int64; -1: unlabelled, so of the target domain.
        screen: the defences against labelled rows that are not to be believed.
        public: the learner's node that every seat has; ``rng``: the hub's own.
        parts: every network that was made here, by name.
    """

    head: ModelConfig
    width: int
    classes: int
    labels: Tensor
    optimiser: OptimiserConfig
    smoothing: float
    screen: Screen
    public: Rng
    rng: Rng
    parts: dict[str, Part] = field(default_factory=dict)

    def network(self, name: str, config: ModelConfig, width: int, out: int) -> Part:
        """A network with its optimiser; ``name`` tells its random node from those of others."""
        rng = self.rng.child(*([name] if name else []))
        network = build_network(config, (width,), out, rng)
        self.parts[name] = Part(network, self.optimiser.build(network.trained))
        return self.parts[name]


@dataclass(frozen=True)
class Part:
    """A network and what updates it."""

    network: Network
    optimiser: Optimiser

    def descend(self, loss: Tensor) -> None:
        """One update of this network alone."""
        self.optimiser.step(self.network.pull_back(loss)[1])


@dataclass(frozen=True)
class Batch:
    """One exchange, as the hub sees it.

    Attributes:
        z: the joined embeddings of rows of both domains, (B, E); its gradient goes back to the parties.
        labels: (B,), -1 for rows of the target domain.
    """

    turn: Turn
    z: Tensor
    labels: Tensor

    @property
    def source(self) -> Tensor:
        """Which rows are labelled, (B,) bool."""
        return self.labels >= 0

    @property
    def domains(self) -> Tensor:
        """0 for source, 1 for target, (B,) int64."""
        return (~self.source).long()


class Learner(ABC):
    """A hub's model over both domains (`fedsim.vfl.top.HubModel`).

    Attributes:
        labels: of the training rows, (N,) int64; -1: unlabelled.
        loss: cross-entropy of the labelled rows in the last exchange that had them, nats.
        screening: the defences at work.
        judged: joined embeddings of rows that were predicted, (n, E) each, until somebody takes them away.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.labels, self.loss = bench, bench.labels, float("nan")
        self.screening = Screening(bench.screen, bench.classes)
        self.judged: list[Tensor] = []
        self.head = bench.network("", bench.head, bench.width, bench.classes)

    @property
    def network(self) -> Network:
        """That of the head."""
        return self.head.network

    @abstractmethod
    def learn(self, batch: Batch) -> Tensor:
        """One exchange: update what lies at the hub; the gradient of ``batch.z``, (B, E)."""

    def step(self, turn: Turn, embeddings: Mapping[RoleId, Tensor]) -> dict[RoleId, Tensor]:
        """The gradient of each party's embedding, of its shape."""
        z = torch.cat(list(embeddings.values()), dim=1).requires_grad_()
        g = self.learn(Batch(turn, z, self.labels.index_select(0, turn.rows)))
        parts = torch.split(g, [e.shape[1] for e in embeddings.values()], dim=1)
        return dict(zip(embeddings, parts, strict=True))

    def predict(self, embeddings: Mapping[RoleId, Tensor]) -> Tensor:
        """The probabilities (B, C) of the classes."""
        self.judged.append(torch.cat(list(embeddings.values()), dim=1))
        return self.logits(self.judged[-1]).softmax(dim=1)

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        parts = {name: (part.network.state(), part.optimiser.state()) for name, part in self.bench.parts.items()}
        return {"parts": parts, "loss": self.loss, "screening": self.screening.state()}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self.loss = state["loss"]
        self.screening.restore(state["screening"])
        for name, part in self.bench.parts.items():
            network, memory = state["parts"][name]
            part.network.restore(network)
            part.optimiser.restore(memory)

    def logits(self, z: Tensor) -> Tensor:
        """What rows are judged by, (B, C); nothing is learned."""
        return self.network.infer(z)

    def labelling_loss(self, batch: Batch, heads: Sequence[Part]) -> Tensor:
        """Cross-entropy of the labelled rows under each head, summed; the first is noted."""
        losses = [self._labelling(part.network.train(batch.z[batch.source], batch.turn), batch) for part in heads]
        self.loss = losses[0].item()
        return torch.stack(losses).sum()

    def _labelling(self, logits: Tensor, batch: Batch) -> Tensor:
        labels, smoothing = batch.labels[batch.source], self.bench.smoothing
        if not self.bench.screen:
            return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        rows, z = batch.turn.rows[batch.source], batch.z[batch.source]
        weights = self.screening.weigh(rows, z, self.labels, logits, losses)
        return (weights * losses).sum() / (weights > 0).sum().clamp_min(1)

    def descend(self, loss: Tensor, batch: Batch, parts: Sequence[Part]) -> Tensor:
        """Update some networks, and hand on the gradient of the embeddings."""
        wanted = [batch.z, *(p for part in parts for p in part.network.live)]
        g, *grads = gradients(loss, wanted)
        for part in parts:
            names = list(part.network.trained)
            part.optimiser.step(dict(zip(names, grads[: len(names)], strict=True)))
            grads = grads[len(names) :]
        return g


class LearnerConfig(Plugin, ABC):
    """The settings of a learner; one subclass a file in ``parties/learners``."""

    @property
    def exchanges(self) -> int:
        """How often parties send the embeddings of one batch."""
        return 1

    def pretext(self, rows: Tensor, turn: Turn, rng: Rng) -> Tensor:
        """What a party makes of the rows (B, ...) of a training turn before they reach its bottom; ``rng`` is public."""
        return rows

    @abstractmethod
    def build(self, bench: Bench) -> Learner:
        """The learner, untrained."""
