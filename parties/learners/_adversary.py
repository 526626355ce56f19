"""A discriminator of domains, and the two losses of the game that is played with it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from fedsim.parties.learners import Batch, Part


class Discriminator:
    """Tells domains apart by what it is shown of each row.

    The game has inverted labels: the discriminator descends in the cross-entropy of the true domains, the features in that of
    the opposite ones (Goodfellow et al., NeurIPS 2014; as in the code of Mehra et al.), where a reversed gradient would vanish
    as soon as the discriminator wins.
    """

    def __init__(self, part: Part) -> None:
        self.part = part

    def sharpen(self, shown: Tensor, batch: Batch) -> None:
        """Its move: one update on what it is shown, (B, D)."""
        logits = self.part.network.train(shown.detach(), batch.turn)
        self.part.descend(functional.cross_entropy(logits, batch.domains))

    def confusion(self, shown: Tensor, batch: Batch) -> Tensor:
        """The features' loss: cross-entropy under inverted domain labels, nats."""
        return functional.cross_entropy(self.part.network.train(shown, batch.turn), 1 - batch.domains)
