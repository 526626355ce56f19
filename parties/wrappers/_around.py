"""A role with something around it: what every wrapper makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from fedsim.errors import ThreatModelError
from fedsim.net import Net
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Claim, Fact, Judgement, Site, Victim
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.network import Network

Told = Callable[[], Mapping[str, Any]]
"""What happened so far, in plain values."""


class Around:
    """Plays as the role inside does; ``change`` befalls that role just before, and says in the end what happened."""

    def __init__(self, role: Role, change: Callable[[Role], Told]) -> None:
        self.role = role
        self._change = change
        self._told: Told = dict

    async def run(self, net: Net) -> None:
        """Begin, then play."""
        self.begin()
        await self.role.run(net)

    def begin(self) -> None:
        """Put what is around the seat in its place."""
        self._told = self._change(core(self.role))

    def tensors(self) -> Mapping[str, Tensor]:
        """Those of the role inside."""
        return self.role.tensors()

    def sidecar(self) -> Mapping[str, Any]:
        """That of the role inside."""
        return self.role.sidecar()

    def knows(self, name: str) -> Any:
        """What the role inside knows."""
        return self.role.knows(name)

    def describe(self) -> Mapping[str, Any]:
        """The role inside, and under ``around`` what befell it, innermost first."""
        inner = dict(self.role.describe())
        return {**inner, "around": [*inner.get("around", ()), dict(self._told())]}

    def disclose(self, name: str) -> Fact:
        """As the role inside does."""
        return self._victim().disclose(name)

    def judge(self, claim: Claim, rng: Rng) -> Judgement:
        """As the role inside does."""
        return self._victim().judge(claim, rng)

    def _victim(self) -> Victim:
        if not isinstance(self.role, Victim):
            raise ThreatModelError("the role inside the wrapper cannot be attacked")
        return self.role


def check_hub(site: Site) -> None:
    """Refuse every seat but the hub.

    Raises:
        ThreatModelError: it is another.
    """
    if site.seat != site.hub:
        raise ThreatModelError(f"expected the label holder, {site.hub}; found {site.seat}")


def core(role: Role) -> Role:
    """The role itself, whatever is around it."""
    while isinstance(role, Around):
        role = role.role
    return role


def networks(role: Role, kind: str) -> dict[str, Network]:
    """The networks at a seat, by what their parameters' names begin with.

    Raises:
        ThreatModelError: nothing here has weights.
    """
    if isinstance(role, FeatureParty):
        return {"": role.bottom.network}
    if isinstance(role, LabelHolder):
        own = {"bottom.": role.own[0].bottom.network} if role.own else {}
        return {"top.": role.top.network, **own}
    raise ThreatModelError(f"{kind}: expected a seat of a vertical federation, found a {type(role).__name__}")


def bottom_of(role: Role, kind: str) -> Bottom:
    """The bottom at a seat.

    Raises:
        ThreatModelError: this seat reads no features.
    """
    if isinstance(role, LabelHolder) and role.own:
        role = role.own[0]
    if not isinstance(role, FeatureParty):
        raise ThreatModelError(f"{kind}: expected a seat with features, found a {type(role).__name__}")
    return role.bottom


def steps_of(role: Role) -> int:
    """How many training steps the seat takes part in."""
    assert isinstance(role, FeatureParty | LabelHolder)
    return role.schedule.steps
