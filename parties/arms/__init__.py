"""Which party is worth adding: candidates train beside the present federation, then measure on held-out rows what they add.

A pull is the mean drop of the loss over a random mini-batch of held-out rows when a party's embedding joins. The party measures
it itself and may lie, which is what the search of the hub is made for. To measure it is told the labels of the held-out rows,
the loss without it, the head that the hub trained for it, and the embeddings of the hub's own features, if it has any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from fedsim.bandit.search import Search
from fedsim.message import Message


class Contest(Search):
    """The search, and what a pull is."""

    rows: int = Field(32, ge=1, description="held-out rows of a pull's mini-batch, drawn with replacement")
    sigma: float | None = Field(
        None, gt=0, description="of a reward, in nats; default: from the quartiles of a pilot, of the widest arm"
    )
    pilot: int = Field(200, ge=20, description="pulls of each arm for that; they serve for nothing else")
    deadline: float = Field(
        60.0, gt=0, description="seconds in which an arm must answer a block of pulls, or is dropped"
    )


@dataclass(frozen=True, eq=False)
class Yardstick(Message):
    """What a candidate measures itself with.

    Attributes:
        own: embeddings of the hub's features of the held-out rows, (n, E); E is 0 if it has none.
        base: the loss of each held-out row without the candidate, (n,) float64, nats.
        labels: of the held-out rows, (n,) int64.
        head: the parameters of the head over both embeddings, by name.
        classes: how many there are.
    """

    own: Tensor
    base: Tensor
    labels: Tensor
    head: Mapping[str, Tensor]
    classes: int


@dataclass(frozen=True, eq=False)
class Pull(Message):
    """Asks for pulls ``first`` to ``first + count``; none: the search is over."""

    first: int
    count: int


@dataclass(frozen=True, eq=False)
class Reward(Message):
    """The rewards of a block, (count,) float64, nats."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class Truth(Message):
    """What a party adds over all held-out rows, in nats: for the report, after the search."""

    gain: float


UP = ("Rows", "Embedding", "Reward", "Truth")
DOWN = ("Gradient", "Yardstick", "Pull")
"""The kinds of message between a candidate and the hub."""
