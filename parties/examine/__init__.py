"""What a trained federation bears: certificates, worst-case weights, flipped bits, seat by seat and all together.

The hub and the parties find it out in messages, after the training, on held-out rows. A party learns what the hub's model makes
of its outputs, as in training: gradients, and how many rows come out right. The hub learns how far each embedding can move. It
is an audit that all seats agree to; nobody sees another's weights or features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from fedsim.bits import Format
from fedsim.message import Message
from fedsim.plugins import Settings

Goal = Literal["loss", "flip", "none"]
"""What a party wants gradients of: the loss over the true labels, the lead of the present prediction, or nothing."""
CEILING = 0.5
"""The largest radius that is tried."""


class Examination(Settings):
    """How thorough it is."""

    radii: tuple[PositiveFloat, ...] = Field(
        (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02),
        min_length=1,
        description="how far each weight may move: of the curves",
    )
    eps: float = Field(0.01, gt=0, description="one of them: of the accuracy under attack in the result table")
    certified: float = Field(0.001, gt=0, description="the radius of the certified accuracy in the result table")
    steps: int = Field(40, ge=1, description="sign steps of the attack on the weights, each a tenth of the radius")
    rows: int | None = Field(None, ge=1, description="held-out rows, the first so many; default: all")
    searches: int = Field(10, ge=1, description="radii tried for each row in the search for the smallest that flips it")
    flips: tuple[PositiveInt, ...] = Field((1, 2, 4, 8, 16, 32), min_length=1, description="bits flipped at once")
    draws: int = Field(8, ge=1, description="draws of places for each of these numbers, and for each layer and bit")
    format: Format = Field("float32", description="the words of the weights whose bits flip")

    @model_validator(mode="after")
    def _eps_is_one_of_them(self) -> Examination:
        if self.eps not in self.radii:
            raise ValueError(f"eps: {self.eps} is none of the radii {', '.join(map(str, self.radii))}")
        return self


@dataclass(frozen=True, eq=False)
class Settled(Message):
    """What a party sends for its rows with the weights in use: ``train`` (N, E), ``test`` (n, E)."""

    train: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class Radii(Message):
    """Radii to try, a row each, (n,): if only the party's weights move, and if everybody's do."""

    alone: Tensor
    together: Tensor


@dataclass(frozen=True, eq=False)
class Reach(Message):
    """How far the party's embeddings can move at these, (n, E), or (n,) by norms."""

    alone: Tensor
    together: Tensor


@dataclass(frozen=True, eq=False)
class Tried(Message):
    """What a party would send with other weights, V variants: ``z`` (V, n, E)."""

    z: Tensor
    goal: str


@dataclass(frozen=True, eq=False)
class Answer(Message):
    """What becomes of them: ``accuracy`` (V,), which predictions changed (V, n), and the gradient ``g`` (V, n, E) or (0,)."""

    accuracy: Tensor
    changed: Tensor
    g: Tensor


@dataclass(frozen=True, eq=False)
class Found(Message):
    """What a party found at its own seat, see `fedsim.parties.examine.weights.Findings`."""

    curve: Tensor
    nearest: Tensor
    heat: Tensor
    sweep: Tensor
    layers: str
    worst: str


UP = ("Settled", "Reach", "Tried", "Found")
DOWN = ("Radii", "Answer")
"""The kinds of message between a party and the hub."""
