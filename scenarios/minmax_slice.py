"""A party that moves its own features: what it can do alone, not knowing the others', and what training against it buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from fedsim.errors import ConfigError, suggest
from fedsim.message import RoleId
from fedsim.minmax.guard import Guard
from fedsim.parties.slices import DOWN, UP, Siege
from fedsim.parties.slices.siege import Besiegers
from fedsim.parties.slices.training import GuardedTop, Posts
from fedsim.parties.vertical import Vertical, build_top
from fedsim.plan import Plan
from fedsim.seeding import Rng
from fedsim.vfl.schedule import Schedule, Turn
from fedsim.vfl.top import HubModel


class MinMaxSlice(Vertical):
    """Train a vertical federation, on request against malicious parties; then parties move their slices of held-out rows.

    In a guarded training a batch is exchanged ``guard.steps`` times more, and a party that may be malicious sends embeddings
    for every ball beside its own.
    """

    resumes: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Wang et al., Adversarial Attack Generation Empowered by Min-Max Optimization, NeurIPS 2021, arXiv 1906.03563"
    )

    labels: Literal["server"] = Field("server", description="who holds the labels and the top model")
    exchange: Literal["split"] = Field("split", description="embeddings up, their gradients down")
    guard: Guard | None = Field(None, description="what training is made against; default: nothing")
    siege: Siege = Field(description="what is tried in the end")

    def plan(self) -> Plan:
        """See `Scenario.plan`."""
        named = {"guard.parties": self.guard.parties if self.guard else (), "siege.seats": self.siege.seats}
        for where, names in named.items():
            for name in names:
                if name not in self.feature_parties():
                    raise ConfigError(f"scenario.{where}: no party '{name}'{suggest(name, self.feature_parties())}")
        if self.guard and self.augment:
            raise ConfigError(
                "scenario.augment: a guarded batch is the same in all its exchanges; expected no augmentation"
            )
        if self.siege.over == "complements" and len(self.feature_parties()) < 2:
            raise ConfigError("scenario.siege.over: of one party there is no complement; expected two parties or more")
        return Vertical.plan(self)

    def schedule(self, rng: Rng, train: int, test: int) -> Schedule:
        """With a rehearsal for every step of the attacks that training is made against."""
        plain = Vertical.schedule(self, rng, train, test)
        return replace(plain, rehearsals=self.guard.steps) if self.guard else plain

    def sends(self, turn: Turn, name: RoleId) -> tuple[int, int]:
        """In a guarded training one that may be malicious sends its rows once more for each ball."""
        rows, width = Vertical.sends(self, turn, name)
        moves = self.guard is not None and turn.purpose == "train" and name in self._malicious()
        return rows * (1 + len(self.guard.balls)) if self.guard and moves else rows, width

    def hub_model(self, labels: Tensor, classes: int, public: Rng, rng: Rng) -> HubModel:
        """The top model, guarded or not."""
        if self.guard is None:
            return Vertical.hub_model(self, labels, classes, public, rng)
        network, malicious = build_top(self, classes, rng), self._malicious()
        return GuardedTop(network, labels, self.optimiser, self.guard, malicious, self.label_smoothing)

    def prologue(self, name: RoleId, labels: Tensor | None, public: Rng) -> Posts | None:
        """A party's half of a guarded training."""
        return Posts(self.guard, name in self._malicious()) if self.guard else None

    def epilogue(self, rng: Rng) -> Besiegers:
        """The siege."""
        return Besiegers(self.siege, tuple(self.feature_parties()), rng)

    def epilogue_kinds(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """See `Vertical.epilogue_kinds`."""
        return UP, DOWN

    def appraised(self, run: str, arm: str, by: Sequence[str]) -> Vertical:
        """See `Scenario.appraised`; there is none of a guarded training."""
        if self.guard:
            raise ConfigError(
                "scenario.guard: no model card of a guarded training; there is one of an arm without a guard"
            )
        return Vertical.appraised(self, run, arm, by)

    def _malicious(self) -> tuple[RoleId, ...]:
        return (self.guard.parties if self.guard else ()) or tuple(self.feature_parties())
