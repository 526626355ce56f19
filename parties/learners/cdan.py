"""Conditional adversarial training: domains are aligned class by class, as the head sees the classes."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedsim.models import ModelConfig
from fedsim.parties.learners import Batch, Bench, Learner, LearnerConfig
from fedsim.parties.learners._adversary import Discriminator
from fedsim.parties.learners.dann import small_mlp
from fedsim.plugins import OneOf


class Cdan(LearnerConfig):
    """The discriminator is shown the outer product of a row's predicted classes and its embedding, (B, C x E)."""

    paper: ClassVar[str] = "Long et al., Conditional Adversarial Domain Adaptation, NeurIPS 2018, arXiv 1705.10667"

    weight: float = Field(1.0, ge=0, description="weight of the adversarial loss beside the labelling loss")
    discriminator: Annotated[ModelConfig, OneOf("models")] = Field(
        default_factory=small_mlp, description="from the outer product to two domains"
    )

    def build(self, bench: Bench) -> Learner:
        """See `LearnerConfig.build`."""
        return _Cdan(bench, self)


class _Cdan(Learner):
    def __init__(self, bench: Bench, config: Cdan) -> None:
        super().__init__(bench)
        self.weight, width = config.weight, bench.width * bench.classes
        self.discriminator = Discriminator(bench.network("discriminator", config.discriminator, width, 2))

    def learn(self, batch: Batch) -> Tensor:
        """The discriminator's move, then that of head and bottoms."""
        classes = self.network.train(batch.z, batch.turn).softmax(dim=1)
        shown = torch.einsum("bc,be->bce", classes, batch.z).flatten(1)
        self.discriminator.sharpen(shown, batch)
        loss = self.labelling_loss(batch, [self.head]) + self.weight * self.discriminator.confusion(shown, batch)
        return self.descend(loss, batch, [self.head])
