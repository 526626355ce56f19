"""The worst weights inside a ball, by the gradients that the seat is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedsim.parties.wrappers._around import Around, Told
from fedsim.parties.wrappers._weights import When, check_step, chosen, write
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Wrapper
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Turn


class WeightPgd(Wrapper):
    """A seat moves its weights, each by at most ``eps``, to where the loss is largest.

    It has no other gradients than those that it computes from what it is sent in training. From training step ``at`` on it
    learns no more, but climbs by projected sign steps around the weights of that moment, while the others train on. With
    ``inference`` it plays honestly, adds up the gradients of its last steps, and moves by ``eps`` along their signs when no
    gradient comes any more.
    """

    paper: ClassVar[str] = (
        "Tsai et al., Formalizing Generalization and Robustness to Weight Perturbations, NeurIPS 2021"
    )

    resumes: ClassVar[bool] = True

    layers: tuple[str, ...] = Field(("*",), description="patterns of parameter names: '0.*', '*.weight', 'top.*'")
    eps: float = Field(0.01, gt=0, description="how far each weight may move")
    step: float = Field(0.1, gt=0, le=1, description="length of a sign step, in units of eps")
    last: int = Field(50, ge=1, description="with at: inference, how many of the last gradients are added up")
    at: When = Field("inference", description="inference, or the training step from which on it climbs")

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, self._begin)

    def _begin(self, role: Role) -> Told:
        check_step(self.kind(), self.at, role)
        found: list[Climber | Collector] = []
        for _, network, every in chosen(self.kind(), role, self.layers):
            names = [name for name in every if name in network.trained]  # no gradient comes for frozen ones
            found.append(Collector(self, network, names) if self.at == "inference" else Climber(self, network, names))
            network.strikes.append(found[-1])
        return lambda: {
            "kind": self.kind(),
            "numbers": {"gradients used": sum(each.used for each in found)},
            "changes": [],
        }


class Climber:
    """Climbs from a training step on (`fedsim.vfl.network.Strike`)."""

    def __init__(self, config: WeightPgd, network: Network, names: Sequence[str]) -> None:
        self.config, self.network, self.names = config, network, names
        self.used = 0
        self._centre: dict[str, Tensor] = {}
        self._held: dict[str, Tensor] = {}

    def before(self, turn: Turn | None) -> None:
        """Begin when it is time; afterwards put the weights back to where the climb has come, past every update."""
        if not self._centre and turn is not None and turn.index == self.config.at:
            self._centre = {name: self.network.parameters[name].detach().clone() for name in self.names}
            self._held = dict(self._centre)
        write(self.network, self._held)

    def after(self) -> None:
        """Nothing: what is moved stays moved."""

    def pulled(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take one step up."""
        if self._centre:
            eps = self.config.eps
            for name, centre in self._centre.items():
                moved = self._held[name] + self.config.step * eps * grads[name].sign()
                self._held[name] = centre + (moved - centre).clamp(-eps, eps)
            self.used += 1
        return grads

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        return {"centre": dict(self._centre), "held": dict(self._held), "used": self.used}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self._centre, self._held, self.used = state["centre"], state["held"], state["used"]


class Collector:
    """Adds up gradients, and moves at inference only (`fedsim.vfl.network.Strike`)."""

    def __init__(self, config: WeightPgd, network: Network, names: Sequence[str]) -> None:
        self.config, self.network, self.names = config, network, names
        self._gradients: list[Mapping[str, Tensor]] = []
        self._healthy: dict[str, Tensor] = {}

    @property
    def used(self) -> int:
        """Gradients that the direction is made of."""
        return len(self._gradients)

    def before(self, turn: Turn | None) -> None:
        """Move, if nothing is trained in this pass."""
        if turn is None and self._gradients:
            self._healthy = {name: self.network.parameters[name].detach().clone() for name in self.names}
            for name, healthy in self._healthy.items():
                direction = torch.stack([each[name] for each in self._gradients]).sum(0).sign()
                write(self.network, {name: healthy + self.config.eps * direction})

    def after(self) -> None:
        """Move back."""
        write(self.network, self._healthy)
        self._healthy = {}

    def pulled(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keep this gradient, as it was received."""
        self._gradients = [*self._gradients, {name: grads[name] for name in self.names}][-self.config.last :]
        return grads

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        return tuple(self._gradients)

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self._gradients = list(state)
