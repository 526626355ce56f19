"""Three stages of a federation: pre-training without labels, fine-tuning once a label party has joined, attacks on the result.

In each of them parties send embeddings of rows as they would have them and get gradients back; what for, all seats know from
the file: to update bottoms, or to move rows within a ball. A party moves its own slice; nobody else sees it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, PositiveFloat
from torch import Tensor

from fedsim.message import Message
from fedsim.plugins import Settings
from fedsim.vfl.optimise import OptimiserConfig

Mode = Literal["slf", "alf", "aff", "full", "trades"]
"""Which parts learn from labels, and from what."""


class Threat(Settings):
    """How far pixels, in [0, 1], may move, in training as at inference."""

    eps: float = Field(0.1, gt=0, le=1, description="most that a pixel moves")
    step: float | None = Field(None, gt=0, description="size of a sign step; default: a quarter of eps")
    inner: int = Field(5, ge=1, description="sign steps of an attack in training")

    @property
    def size(self) -> float:
        """Of a sign step."""
        return self.step or self.eps / 4


class Finetuning(Settings):
    """What the labels are used for."""

    mode: Mode = Field(
        "slf",
        description="slf: the top, on clean rows | alf: the top, on attacked rows | aff: top and bottoms, on attacked rows | "
        "full: both, on clean rows | trades: both, clean loss and distance to attacked predictions",
    )
    steps: int = Field(300, ge=1, description="training steps")
    batch: int = Field(128, ge=1, description="rows a step")
    optimiser: OptimiserConfig = Field(OptimiserConfig(lr=0.01), description="updates the top, and bottoms that learn")
    beta: float = Field(6.0, gt=0, description="for mode trades: weight of the distance")

    @property
    def moves_bottoms(self) -> bool:
        """Whether bottoms learn."""
        return self.mode in ("aff", "full", "trades")

    @property
    def attacks(self) -> bool:
        """Whether it learns from attacked rows."""
        return self.mode in ("alf", "aff", "trades")


class Robustness(Settings):
    """How hard the trained federation is attacked on held-out rows, with true labels."""

    rows: int | None = Field(None, ge=1, description="the first so many held-out rows; default: all")
    steps: int = Field(20, ge=1, description="of PGD")
    long: int = Field(100, ge=1, description="of long PGD")
    restarts: int = Field(3, ge=1, description="random starts of long PGD")
    auto_steps: int = Field(50, ge=1, description="of each APGD; the library AutoAttack has 100")
    targets: int = Field(
        9, ge=0, description="wrong classes that APGD aims at, one after the other, the likeliest first"
    )
    radii: tuple[PositiveFloat, ...] = Field((), description="eps of a curve, PGD on all parties")


@dataclass(frozen=True, eq=False)
class Ready(Message):
    """To the label party: pre-training is over."""


@dataclass(frozen=True, eq=False)
class Labels(Message):
    """From the label party: those of training (N,) and held-out rows (n,), int64, and the classes as JSON."""

    train: Tensor
    held_out: Tensor
    classes: str


@dataclass(frozen=True, eq=False)
class Components(Message):
    """The principal components of a party's slice of the training rows, (N, k)."""

    points: Tensor


@dataclass(frozen=True, eq=False)
class Chosen(Message):
    """Held-out rows to attack next, (m,) int64, and how (`fedsim.parties.contrast.assaults.Assault`); no rows: it is over."""

    rows: Tensor
    method: str
    steps: int
    eps: float
    nth: int


@dataclass(frozen=True, eq=False)
class Reply(Message):
    """The gradient of what is climbed in with respect to an embedding, (m, E), and its value by row, (m,)."""

    g: Tensor
    losses: Tensor


@dataclass(frozen=True, eq=False)
class Spent(Message):
    """Bytes that a party sent in each stage."""

    pretraining: int
    finetuning: int
    robustness: int


def rate(index: int, steps: int, warmup: int = 0) -> float:
    """The share of the learning rate at a step: a linear warm-up, then half a cosine down to a thousandth."""
    if index < warmup:
        return (index + 1) / (warmup + 1)
    done = (index - warmup) / max(1, steps - warmup)
    return 0.001 + 0.999 * (1 + math.cos(math.pi * done)) / 2
