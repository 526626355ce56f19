"""Domain-adversarial training: features by which no discriminator can tell the domains apart."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from fedsim.models import ModelConfig
from fedsim.parties.learners import Batch, Bench, Learner, LearnerConfig
from fedsim.parties.learners._adversary import Discriminator
from fedsim.plugins import OneOf, load


def small_mlp() -> ModelConfig:
    """One hidden layer of 32 units."""
    return load("models", ModelConfig, {"kind": "mlp", "hidden": [32]})


class Dann(LearnerConfig):
    """A discriminator looks at the embeddings of both domains; the gradient of its defeat flows to every bottom."""

    paper: ClassVar[str] = "Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016, arXiv 1505.07818"

    weight: float = Field(1.0, ge=0, description="weight of the adversarial loss beside the labelling loss")
    discriminator: Annotated[ModelConfig, OneOf("models")] = Field(
        default_factory=small_mlp, description="from the joined embeddings to two domains"
    )

    def build(self, bench: Bench) -> Learner:
        """See `LearnerConfig.build`."""
        return _Dann(bench, self)


class _Dann(Learner):
    def __init__(self, bench: Bench, config: Dann) -> None:
        super().__init__(bench)
        self.weight = config.weight
        self.discriminator = Discriminator(bench.network("discriminator", config.discriminator, bench.width, 2))

    def learn(self, batch: Batch) -> Tensor:
        """The discriminator's move, then that of head and bottoms."""
        self.discriminator.sharpen(batch.z, batch)
        loss = self.labelling_loss(batch, [self.head]) + self.weight * self.discriminator.confusion(batch.z, batch)
        return self.descend(loss, batch, [self.head])
