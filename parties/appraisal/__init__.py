"""What a model card of a trained federation says beyond its scores: whom it treats how, who is worth what, what it bears.

The seats find it out in messages, after the training, on held-out rows. The hub has the predictions and the labels; a column
that people are told apart by stays at the seat that knows it, and only sums over groups leave it; a party's features are
explained at the party, and what is found leaves it only with its consent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from fedsim.message import Message, RoleId
from fedsim.parties.column_names import ColumnName
from fedsim.plugins import Settings

Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Fairness(Settings):
    """Whom the predictions treat how."""

    by: tuple[ColumnName, ...] = Field(
        min_length=1, description="columns that tell groups of people apart, each by itself"
    )
    at: dict[str, RoleId] = Field(
        {}, description="by column, the seat that knows it; default: the party that has it among its features"
    )
    at_least: int = Field(50, ge=2, description="held-out rows of the smallest group whose sums leave its seat")
    told: Literal["predictions", "labels"] = Field(
        "labels",
        description="what the hub tells a party that knows a column of each held-out row: the predicted class, or the "
        "true one as well; without it there are selection rates only",
    )
    favourable: str = Field("", description="the class that people wish for; default: the last")


class Worth(Settings):
    """What each party is worth, and within a party that discloses it, each of its features."""

    exact: int = Field(8, ge=1, le=12, description="parties up to which every coalition is played")
    orders: int = Field(200, ge=2, description="orders of joining that are drawn where there are more")
    rows: int = Field(256, ge=1, description="held-out rows, the first so many, on which features are explained")
    steps: int = Field(20, ge=2, description="of each path of integrated gradients")
    repeats: int = Field(5, ge=2, description="permutations of each feature")


class Resilience(Settings):
    """What is done to one seat at a time; the wrappers are those of ``seats:``."""

    missing: tuple[Share, ...] = Field((0.1, 0.3, 0.5), description="shares of a party's features that are lost")
    noisy: tuple[Positive, ...] = Field((0.5, 1.0, 2.0), description="noise on a party's features")
    shifted: tuple[Positive, ...] = Field((0.5, 1.0, 2.0), description="offsets of a party's features")
    quantise: tuple[Annotated[int, Field(ge=2, le=16)], ...] = Field((8, 4), description="bits of a seat's weights")
    bitflip: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 8, 64), description="flipped bits of a seat's weights")
    labels: tuple[Share, ...] = Field(
        (0.05, 0.1, 0.2), description="shares of wrong labels in a training of its own: fedsim card plays it"
    )
    seed: int = Field(0, ge=0, description="what is drawn is what seats: would draw in a run of this public seed")
    draws: int = Field(3, ge=1, description="seeds from it upward, for what is drawn")


@dataclass(frozen=True)
class Appraisal:
    """What is asked of a federation.

    Attributes:
        parties: in roster order.
        hub: the seat with the top model.
        owners: by column of ``fairness.by``, the seat that knows it.
        disclosing: the parties that consent to showing what their features are worth.
    """

    parties: Sequence[RoleId]
    hub: RoleId
    fairness: Fairness | None
    worth: Worth | None
    resilience: Resilience | None
    owners: Mapping[str, RoleId]
    disclosing: Sequence[RoleId]


@dataclass(frozen=True, eq=False)
class Outcomes(Message):
    """To a seat that knows a column: of each held-out row whether it was selected, (n,) bool, and should be: (n,), or (0,)."""

    selected: Tensor
    positive: Tensor


@dataclass(frozen=True, eq=False)
class GroupSums(Message):
    """Back, for one column: a line for each group that is large enough, (G, 4) int64; neither names nor rows.

    The columns: rows that were selected and should be, selected and should not, neither, and not selected and should be;
    without labels selected rows stand in the first and others in the third.
    """

    counts: Tensor


@dataclass(frozen=True, eq=False)
class Varied(Message):
    """A party's embeddings of the explained rows, V variants: ``z`` (V, n, E). ``goal``: value, loss, or none, the end."""

    z: Tensor
    goal: str


@dataclass(frozen=True, eq=False)
class Valued(Message):
    """Back: of goal value the log odds of the class predicted for each row, (V, n), and their gradients (V, n, E).

    Of goal loss the mean log loss of each variant, (V,), nats.
    """

    values: Tensor
    g: Tensor
