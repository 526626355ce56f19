"""Self-supervision: rows of both domains are turned, and by how far is to be told from their embeddings."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedsim.errors import ConfigError
from fedsim.models import ModelConfig
from fedsim.parties.learners import Batch, Bench, Learner, LearnerConfig
from fedsim.plugins import OneOf, load
from fedsim.seeding import Rng
from fedsim.vfl.schedule import Turn


def _linear() -> ModelConfig:
    return load("models", ModelConfig, {"kind": "linear"})


class Rotation(LearnerConfig):
    """Two exchanges a batch: rows as they are, to be labelled; and each turned by some quarters, to be told apart by that.

    Each party turns its own slice in place, so slices must be squares of pixels; all turn a row by the same quarters, which
    follow from the public seed.
    """

    paper: ClassVar[str] = "Sun et al., Unsupervised Domain Adaptation through Self-Supervision, 2019, arXiv 1909.11825"

    weight: float = Field(1.0, ge=0, description="weight of the loss on turned rows beside the labelling loss")
    pretext_head: Annotated[ModelConfig, OneOf("models")] = Field(
        default_factory=_linear, description="from the joined embeddings to four rotations"
    )

    @property
    def exchanges(self) -> int:
        """One for each task."""
        return 2

    def pretext(self, rows: Tensor, turn: Turn, rng: Rng) -> Tensor:
        """See `LearnerConfig.pretext`: in the second exchange each row is turned.

        Raises:
            ConfigError: the slice is not a square of pixels.
        """
        if turn.purpose != "train" or turn.phase == 0:
            return rows
        if rows.ndim != 4 or rows.shape[2] != rows.shape[3]:
            raise ConfigError(
                f"learner rotation: a slice must be a square of pixels; found rows of shape {tuple(rows.shape[1:])}"
            )
        turned = torch.stack([rows.rot90(quarter, (2, 3)) for quarter in range(4)])
        return turned[quarters_of(turn, rng), torch.arange(len(rows))]

    def build(self, bench: Bench) -> Learner:
        """See `LearnerConfig.build`."""
        return _Rotation(bench, self)


class _Rotation(Learner):
    def __init__(self, bench: Bench, config: Rotation) -> None:
        super().__init__(bench)
        self.weight, self.pretext_loss = config.weight, float("nan")
        self.second = bench.network("pretext head", config.pretext_head, bench.width, 4)

    def learn(self, batch: Batch) -> Tensor:
        """Label the source; then tell how far each row of either domain was turned."""
        if batch.turn.phase == 0:
            return self.descend(self.labelling_loss(batch, [self.head]), batch, [self.head])
        logits = self.second.network.train(batch.z, batch.turn)
        loss = functional.cross_entropy(logits, quarters_of(batch.turn, self.bench.public))
        self.pretext_loss = loss.item()
        return self.descend(self.weight * loss, batch, [self.second])


def quarters_of(turn: Turn, rng: Rng) -> Tensor:
    """By how many quarters each row of a turn is turned, (B,) int64 in 0 to 3."""
    return torch.randint(4, (len(turn.rows),), generator=rng.child("quarters", turn.index).torch())
