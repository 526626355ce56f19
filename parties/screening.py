"""What a learner does against labelled rows that it should not believe: they are left out of the labelling loss, or count less.

All of it needs only what the hub has: labels, losses, embeddings. Each has its price on rows that are honest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.parties.bound import Domain, majority


class Screen(NamedTuple):
    """Which defences there are, see `fedsim.scenarios.uda_poisoning`; none by default."""

    trim: float = 0.0
    knn: int = 0
    cap: float | None = None

    def __bool__(self) -> bool:
        return bool(self.trim or self.knn or self.cap is not None)


class Screening:
    """The defences at work.

    Attributes:
        weights: at which each training row counted when it was last labelled, (N,) in [0, 1]; NaN before that. Empty without
            a defence.
    """

    def __init__(self, screen: Screen, classes: int) -> None:
        self.screen, self.classes = screen, classes
        self.weights = self._bank = torch.empty(0)

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        return {"weights": self.weights, "bank": self._bank}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self.weights, self._bank = state["weights"], state["bank"]

    def weigh(self, rows: Tensor, z: Tensor, labels: Tensor, logits: Tensor, losses: Tensor) -> Tensor:
        """At which labelled rows (n,) of a batch count, (n,).

        Args:
            rows: their numbers among the training rows, of which ``labels`` (N,) are those of all, -1 for none.
            z, logits, losses: of these rows; nothing flows back through the weights.
        """
        screen, weights = self.screen, torch.ones(len(rows))
        if len(self.weights) != len(labels):  # rows are entered after the hub is built
            self.weights = torch.full((len(labels),), torch.nan)
            self._bank = torch.full((len(labels), z.shape[1]), torch.nan)
        if screen.trim:
            weights[losses.detach().topk(min(round(screen.trim * len(rows)), len(rows) - 1)).indices] = 0
        if screen.knn:
            weights *= self._agrees(rows, z.detach(), labels)
        if screen.cap is not None:
            pull = (logits.detach().softmax(dim=1) - functional.one_hot(labels[rows], self.classes)).norm(dim=1)
            weights *= (screen.cap / pull.clamp_min(1e-12)).clamp(max=1)
        self.weights[rows] = weights
        return weights

    def _agrees(self, rows: Tensor, z: Tensor, labels: Tensor) -> Tensor:
        """Whether each row is labelled as most of the nearest other rows, as these were last embedded; (n,) bool.

        Until each row has as many others that it can be compared with, all agree.
        """
        self._bank[rows] = z
        known = torch.nonzero(~self._bank[:, 0].isnan()).flatten()
        if len(known) <= self.screen.knn:
            return torch.ones(len(rows), dtype=torch.bool)
        among = Domain(self._bank[known], labels[known])
        own = torch.searchsorted(known, rows)
        return majority(z, among, self.classes, self.screen.knn, leave_out=own) == labels[rows]
