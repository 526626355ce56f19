"""Maximum classifier discrepancy: two heads look for target rows they disagree on, the features leave them none."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from fedsim.parties.learners import Batch, Bench, Learner, LearnerConfig


class Mcd(LearnerConfig):
    """Steps A, B, C of section 3.3 in two exchanges a batch or more: parties send anew after A, and before each C.

    Each network has one optimiser for all its steps.
    """

    paper: ClassVar[str] = "Saito et al., Maximum Classifier Discrepancy, CVPR 2018, arXiv 1712.02560, section 3.3"

    repeats: int = Field(1, ge=1, description="how often step C follows, each time an exchange")

    @property
    def exchanges(self) -> int:
        """One for A, one for each C."""
        return 1 + self.repeats

    def build(self, bench: Bench) -> Learner:
        """See `LearnerConfig.build`."""
        return _Mcd(bench)


class _Mcd(Learner):
    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.second = bench.network("second head", bench.head, bench.width, bench.classes)
        self.heads = (self.head, self.second)

    def learn(self, batch: Batch) -> Tensor:
        """A: heads and bottoms label the source. B: heads disagree on the target. C: bottoms reconcile them."""
        if batch.turn.phase == 0:
            return self.descend(self.labelling_loss(batch, self.heads), batch, self.heads)
        if batch.turn.phase == 1:
            self.descend(self.labelling_loss(batch, self.heads) - self.discrepancy(batch), batch, self.heads)
        return self.descend(self.discrepancy(batch), batch, ())

    def discrepancy(self, batch: Batch) -> Tensor:
        """Mean absolute difference of the two heads' probabilities over the target rows."""
        z = batch.z[~batch.source]
        one, other = (part.network.train(z, batch.turn).softmax(dim=1) for part in self.heads)
        return (one - other).abs().mean()

    def logits(self, z: Tensor) -> Tensor:
        """The mean of both heads."""
        return (self.network.infer(z) + self.second.network.infer(z)) / 2
