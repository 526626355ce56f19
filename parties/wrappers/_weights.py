"""Faults of the weights at a seat: which layers, when, and how they are put around a network's passes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.errors import ConfigError
from fedsim.parties.wrappers._around import Around, Told, core, networks, steps_of
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Wrapper
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Turn

When = Literal["inference"] | Annotated[int, Field(ge=0)]
Weights = Mapping[str, Tensor]
LISTED = 200
"""Changes that are listed one by one; the count is of all."""


@dataclass(frozen=True)
class Damage:
    """What a fault makes of some tensors.

    Attributes:
        weights: the tensors as they are from now on, by name.
        numbers: what happened, in numbers.
        changes: the single changes, as plain values.
    """

    weights: Weights
    numbers: Mapping[str, float]
    changes: Sequence[Mapping[str, Any]] = field(default_factory=list)


class WeightFault(Wrapper, ABC):
    """A fault that strikes the weights of a seat."""

    resumes: ClassVar[bool] = True
    lasting: ClassVar[bool] = False
    """Whether what is struck in a training step stays struck, whatever the optimiser does; else training goes on from it."""

    layers: tuple[str, ...] = Field(("*",), description="patterns of parameter names: '0.*', '*.weight', 'top.*'")
    at: When = Field(
        "inference", description="inference: on held-out and new rows only; or the training step at which it strikes"
    )

    @abstractmethod
    def spoil(self, weights: Weights, rng: Rng) -> Damage:
        """What becomes of these tensors, on the CPU; equal ``rng``, equal places."""

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, lambda inside: self._begin(inside, rng))

    def _begin(self, role: Role, rng: Rng) -> Told:
        check_step(self.kind(), self.at, role)
        found = {
            prefix: Struck(self, network, names, rng.child(prefix))
            for prefix, network, names in chosen(self.kind(), role, self.layers)
        }
        for struck in found.values():
            struck.network.strikes.append(struck)
        return lambda: _tell(self.kind(), found)


def check_step(kind: str, at: When, role: Role) -> None:
    """Refuse a fault that would never strike.

    Raises:
        ConfigError: there are fewer training steps.
    """
    if at != "inference" and at >= (steps := steps_of(core(role))):
        raise ConfigError(f"{kind}: at: training step {at}; this run has steps 0 to {steps - 1}")


def chosen(kind: str, role: Role, layers: Sequence[str]) -> list[tuple[str, Network, list[str]]]:
    """The networks of a seat that have parameters under one of the patterns, and the names of these.

    Raises:
        ConfigError: no parameter is under any of them.
    """
    found, every = [], list[str]()
    for prefix, network in networks(role, kind).items():
        every += [prefix + name for name in network.parameters]
        names = [n for n in network.parameters if any(fnmatchcase(prefix + n, pattern) for pattern in layers)]
        found += [(prefix, network, names)] if names else []
    if not found:
        raise ConfigError(f"{kind}: layers: nothing here is called {', '.join(layers)}; there are {', '.join(every)}")
    return found


class Struck:
    """A fault around one network (`fedsim.vfl.network.Strike`)."""

    def __init__(self, fault: WeightFault, network: Network, names: Sequence[str], rng: Rng) -> None:
        self.fault, self.network, self.names, self.rng = fault, network, tuple(names), rng
        self.damage: Damage | None = None
        self._healthy: dict[str, Tensor] | None = None

    def before(self, turn: Turn | None) -> None:
        """Strike if it is time."""
        at = self.fault.at
        if at == "inference":
            if turn is None:
                self._healthy = {name: self.network.parameters[name].detach().clone() for name in self.names}
                self._strike()
        elif self.damage is None:
            if turn is not None and turn.index == at:
                self._strike()
        elif self.fault.lasting:
            self._strike()

    def after(self) -> None:
        """Heal what is struck at inference only."""
        if self._healthy is not None:
            write(self.network, self._healthy)
            self._healthy = None

    def pulled(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """As they are."""
        return grads

    def state(self) -> Any:
        """See `fedsim.state.Lasting`: the damage that was done."""
        if self.damage is None:
            return None
        done = self.damage
        changes = json.dumps([dict(change) for change in done.changes])
        return {"weights": dict(done.weights), "numbers": dict(done.numbers), "changes": changes}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self.damage = state and Damage(state["weights"], state["numbers"], json.loads(state["changes"]))

    def _strike(self) -> None:
        weights = {name: self.network.parameters[name].detach().cpu() for name in self.names}
        self.damage = self.fault.spoil(weights, self.rng)
        write(self.network, self.damage.weights)


def write(network: Network, weights: Weights) -> None:
    """Put values in the place of parameters."""
    with torch.no_grad():
        for name, tensor in weights.items():
            network.parameters[name].copy_(tensor)


def _tell(kind: str, found: Mapping[str, Struck]) -> dict[str, Any]:
    """The last blow to each network: numbers summed up, changes with the whole name of the parameter."""
    numbers: dict[str, float] = {}
    changes: list[Mapping[str, Any]] = []
    for prefix, struck in found.items():
        if struck.damage is not None:
            for name, value in struck.damage.numbers.items():
                numbers[name] = numbers.get(name, 0) + value
            changes += [{**each, "parameter": prefix + each["parameter"]} for each in struck.damage.changes]
    return {"kind": kind, "numbers": numbers, "changes": changes[:LISTED]}
