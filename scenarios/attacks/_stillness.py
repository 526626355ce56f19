"""When models stood still: what every attack that joins rounds has to know, because only rounds on one model add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, Protocol, Self, TypeVar

from torch import Tensor

from fedsim.scenarios.attacks._disclosed import equal, updated
from fedsim.vfl.messages import Model

R = TypeVar("R")
Each = TypeVar("Each", contravariant=True)
Regime = Literal["frozen", "training"]


class Log(Protocol[Each]):
    """What an attack keeps of a stretch of rounds."""

    def __len__(self) -> int:
        """How many rounds there were."""

    def add(self, new: Each, /) -> Self:
        """The log with one more round."""


L = TypeVar("L", bound=Log)  # type: ignore[type-arg]


@dataclass(frozen=True)
class Kept(Generic[R]):
    """A log that keeps every round, or the last ``most``."""

    rounds: tuple[R, ...] = ()
    most: int | None = None

    def __len__(self) -> int:
        return len(self.rounds)

    def add(self, new: R) -> Kept[R]:
        """See `Log.add`."""
        return replace(self, rounds=(*self.rounds, new)[-self.most if self.most else None :])


@dataclass(frozen=True)
class Stillness(Generic[R, L]):
    """The rounds of the longest time that a model stood still; while it never has, those that moved it.

    A round that moved the model was no still one: its party may have used dropout or augmentation.

    Attributes:
        model: the parameters at present.
        empty: a log to begin a stretch with.
        moving: the rounds that moved the model, while it has never stood still for two.
        now: the rounds since it moved last; ``last``: the latest, of which it does not show yet whether it moved the model.
        still: the longest stretch that has passed, and the parameters in it, ``then``.
    """

    model: Mapping[str, Tensor]
    empty: L
    moving: L
    now: L
    still: L
    then: Mapping[str, Tensor] = field(default_factory=dict)
    last: R | None = None

    @staticmethod
    def of(model: Mapping[str, Tensor], empty: L, moving: L) -> Stillness[R, L]:
        """Before the first round."""
        return Stillness(model, empty, moving, empty, empty)

    def add(self, new: R) -> Stillness[R, L]:
        """After one more round."""
        before = self if self.last is None else replace(self, now=self.now.add(self.last))
        return replace(before, last=new)

    def on(self, message: Model) -> Stillness[R, L]:
        """After the model that the last round led to."""
        model = updated(self.model, message)
        if equal(model, self.model):
            return self if self.last is None else replace(self, now=self.now.add(self.last), last=None)
        more = replace(self, model=model, now=self.empty, last=None)
        if len(self.now) > max(1, len(self.still)):
            return replace(more, still=self.now, then=self.model, moving=self.empty)
        if self.last is None or len(self.still):
            return more
        return replace(more, moving=self.moving.add(self.last))

    def best(self) -> tuple[Regime, L, Mapping[str, Tensor]]:
        """The rounds to use, and the parameters to hold them against."""
        now = self.now if self.last is None else self.now.add(self.last)
        longest, model = (now, self.model) if len(now) >= len(self.still) else (self.still, self.then)
        if len(longest) > 1:
            return "frozen", longest, model
        moving = self.moving if self.last is None else self.moving.add(self.last)
        return "training", moving if len(moving) else longest, self.model
