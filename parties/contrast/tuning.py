"""What the hub makes of labels: the top, its losses, and what attacks in training climb in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.message import RoleId
from fedsim.parties.contrast import Finetuning, rate
from fedsim.vfl.network import Network, Through, gradients
from fedsim.vfl.schedule import Turn
from fedsim.vfl.top import Learner

Joined = Mapping[RoleId, Tensor]
"""By party, in roster order, embeddings (n, E)."""


class Tuner(Learner):
    """A top that learns as a plan of fine-tuning says."""

    def __init__(self, network: Network, labels: Tensor, plan: Finetuning, through: Through | None) -> None:
        super().__init__(network, labels, plan.optimiser)
        self._plan, self._through = plan, through

    def climb(self, here: Joined, clean: Joined | None, turn: Turn) -> dict[RoleId, Tensor]:
        """The gradient of what an attack climbs in, by party: cross-entropy, or the distance to what is said of clean rows."""
        z = torch.cat(list(here.values()), dim=1).detach().requires_grad_()
        logits = self.network.train(z, turn.held(), self._through)
        if clean is None:
            loss = functional.cross_entropy(logits, self.labels[turn.rows])
        else:
            loss = _distance(logits, self.network.infer(torch.cat(list(clean.values()), dim=1)))
        return _parts(gradients(loss, [z])[0], here)

    def descend(self, here: Joined, clean: Joined | None, turn: Turn) -> dict[RoleId, Tensor]:
        """One update of the top; the gradient of all that was sent, by party, clean rows first."""
        sent = {p: z if clean is None else torch.cat([clean[p], z]) for p, z in here.items()}
        z = torch.cat(list(sent.values()), dim=1).detach().requires_grad_()
        logits, labels = self.network.train(z, turn, self._through), self.labels[turn.rows]
        if clean is None:
            loss = functional.cross_entropy(logits, labels)
        else:
            said, attacked = logits.chunk(2)
            loss = functional.cross_entropy(said, labels) + self._plan.beta * _distance(attacked, said)
        g, grads = self.network.pull_back(loss, inputs=z)
        assert g is not None
        self._optimiser.step(grads, rate(turn.index, self._plan.steps))
        self.loss = loss.item()
        return _parts(g, sent)


def _distance(attacked: Tensor, said: Tensor) -> Tensor:
    """Kullback-Leibler, mean over rows, nats (TRADES, Zhang et al., ICML 2019, equation 5)."""
    return functional.kl_div(
        attacked.log_softmax(dim=1), said.log_softmax(dim=1), reduction="batchmean", log_target=True
    )


def _parts(g: Tensor, like: Joined) -> dict[RoleId, Tensor]:
    return dict(zip(like, torch.split(g, [z.shape[1] for z in like.values()], dim=1), strict=True))
