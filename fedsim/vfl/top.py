"""The hub's half of the network: embeddings in, loss out, gradients of the embeddings back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.message import RoleId
from fedsim.state import Lasting
from fedsim.vfl.harden import PLAIN, Hardening
from fedsim.vfl.network import Network
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Turn


class HubModel(Lasting, Protocol):
    """What the hub trains with and predicts with.

    Attributes:
        network: what lies at the hub; its parameters are saved.
        labels: of the training rows, (N,) int64.
        loss: of the last training step, nats.
    """

    labels: Tensor
    loss: float

    @property
    def network(self) -> Network:
        """From the joined embeddings to logits."""

    def step(self, turn: Turn, embeddings: Mapping[RoleId, Tensor]) -> dict[RoleId, Tensor]:
        """One training step: the gradient of each embedding, of its shape."""

    def predict(self, embeddings: Mapping[RoleId, Tensor]) -> Tensor:
        """The probabilities (B, C) of the classes."""


class Learner:
    """A network over joined embeddings, what updates it, and the loss of its last step: all that training changes at a hub.

    Attributes:
        network: from (B, sum of E) to logits (B, C).
        labels: of the training rows, (N,) int64.
        loss: of the last training step, nats.
    """

    def __init__(self, network: Network, labels: Tensor, optimiser: OptimiserConfig) -> None:
        self.network, self.labels, self.loss = network, labels, float("nan")
        self._optimiser = optimiser.build(network.trained)

    def predict(self, embeddings: Mapping[RoleId, Tensor]) -> Tensor:
        """The probabilities (B, C) of the classes."""
        return self.network.infer(torch.cat(list(embeddings.values()), dim=1)).softmax(dim=1)

    def state(self) -> Any:
        """See `Lasting`."""
        return {"network": self.network.state(), "optimiser": self._optimiser.state(), "loss": self.loss}

    def restore(self, state: Any) -> None:
        """See `Lasting`."""
        self.network.restore(state["network"])
        self._optimiser.restore(state["optimiser"])
        self.loss = state["loss"]


class Top(Learner):
    """A top model over the parties' embeddings, joined in the order in which they come.

    Its loss is the mean cross-entropy, and the robust term if there is one.
    """

    def __init__(
        self,
        network: Network,
        labels: Tensor,
        optimiser: OptimiserConfig,
        smoothing: float = 0.0,
        hardening: Hardening = PLAIN,
    ) -> None:
        super().__init__(network, labels, optimiser)
        self._smoothing, self._hardening = smoothing, hardening

    def step(self, turn: Turn, embeddings: Mapping[RoleId, Tensor]) -> dict[RoleId, Tensor]:
        """Forward, loss, backward, update (unless the turn holds): the gradient of each embedding, of its shape."""
        z = torch.cat(list(embeddings.values()), dim=1).requires_grad_()
        loss = self._loss(turn, z, [e.shape[1] for e in embeddings.values()])
        g, grads = self.network.pull_back(loss, inputs=z)
        assert g is not None
        if not turn.hold:
            self._optimiser.step(grads)
        self.loss = loss.item()
        return dict(zip(embeddings, torch.split(g, [e.shape[1] for e in embeddings.values()], dim=1), strict=True))

    def _loss(self, turn: Turn, z: Tensor, widths: Sequence[int]) -> Tensor:
        target = self.labels.index_select(0, turn.rows)
        if not self._hardening.robust:
            return functional.cross_entropy(self.network.train(z, turn), target, label_smoothing=self._smoothing)
        judged = self.network.train(z, turn, lambda top, joined: self._hardening.judged(top, joined, widths, target))
        return self._hardening.loss(judged, target, turn.index, self._smoothing)
