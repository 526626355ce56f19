"""A malicious party that moves its own slice of the features: against what others may hold, and training against it.

It sees neither their features nor the labels. What it is granted is an answer to every embedding that it tries: the margins and
their gradients, as if hub and party conspired, or as if the party had a copy of the top model and of others' records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor

from fedsim.message import Message, RoleId
from fedsim.minmax.apgda import Weighing
from fedsim.minmax.balls import Ball
from fedsim.plugins import Settings


class Siege(Settings):
    """What is tried on the trained federation, on held-out rows."""

    seats: tuple[RoleId, ...] = Field((), description="who is malicious, one after the other; none: every party")
    balls: tuple[Ball, ...] = Field(min_length=1, description="how far the seat's own features are moved")
    over: Literal["records", "complements", "dropout"] = Field(
        "records",
        description="what the others hold: of each row the very records; unknown complements: `count` records of its class "
        "from the training rows; or whoever of them is missing, each in turn, and nobody",
    )
    count: int = Field(5, ge=1, description="of complements: how many stand for the one that is not known")
    rules: tuple[Literal["average", "minmax"], ...] = Field(
        ("minmax",), min_length=1, description="how the losses over what the others hold are weighed, one attack each"
    )
    weighing: Weighing = Field(
        default_factory=lambda: Weighing.model_validate({}), description="of every attack, but for its rule"
    )
    rows: int | None = Field(None, ge=1, description="held-out rows, the first so many; default: all")


@dataclass(frozen=True, eq=False)
class Standing(Message):
    """What a party makes of its rows as they are: ``train`` (N, E), ``test`` (n, E)."""

    train: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class Targets(Message):
    """To a malicious party: which of the held-out rows to attack, (n,)."""

    rows: Tensor


@dataclass(frozen=True, eq=False)
class Pushed(Message):
    """An embedding that it tries for some of them: ``z`` (m, E), ``rows`` (m,) among the targets; ``final``: that was it."""

    z: Tensor
    rows: Tensor
    final: bool


@dataclass(frozen=True, eq=False)
class Felt(Message):
    """What comes of it in each of K domains: ``margins`` (K, m), and their gradients ``g`` (K, m, E); (0,) in the end."""

    margins: Tensor
    g: Tensor


UP = ("Standing", "Pushed")
DOWN = ("Targets", "Felt")
"""The kinds of message between a party and the hub."""
