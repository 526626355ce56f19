"""Poisoned records: what the wrappers that put them into a federation over two domains have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fedsim.errors import ConfigError, ThreatModelError, suggest
from fedsim.message import RoleId
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder
from fedsim.parties.opening import Entered, Opening
from fedsim.parties.wrappers._around import Told, check_hub
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Knowledge, Site

TRUTH = ("target_labels", "pseudo_labels")
"""Facts of which either says what the target's rows are."""


def check_place(site: Site, at: Literal["hub", "party"]) -> None:
    """Refuse the other kind of seat.

    Raises:
        ThreatModelError: it is one, or the federation has one domain only.
    """
    if not any(flow.kind == Entered.kind() for flow in site.flows):
        raise ThreatModelError("expected a federation over two domains, such as scenario kind 'uda_poisoning'")
    if at == "hub":
        check_hub(site)
    elif site.seat == site.hub:
        raise ThreatModelError(f"expected a party with features, found the label holder, {site.hub}")


def check_told(site: Site, *needed: Sequence[str]) -> None:
    """Refuse an attacker who is not told enough: of each of ``needed`` one fact will do.

    Raises:
        ThreatModelError: says what is missing, and what is told.
    """
    told = site.told[site.seat]
    for names in needed:
        if not set(names) & set(told):
            found = f"scenario.grants tells {site.seat} {', '.join(told) or 'nothing'}"
            raise ThreatModelError(f"needs to know {' or '.join(names)}; {found}")


def check_plotters(site: Site, plotters: Sequence[RoleId], part: str) -> None:
    """Refuse a plot in which somebody would wait for what never comes; ``part`` is the wrapper of each plotter.

    Raises:
        ConfigError: a plotter is no party, or does not have its part once.
    """
    for party in plotters:
        if party not in site.told or party == site.hub:
            raise ConfigError(f"plotters: no party '{party}'{suggest(party, set(site.told) - {site.hub})}")
        if (count := sum(each.kind() == part for each in site.wrappers.get(party, ()))) != 1:
            raise ConfigError(f"plotters: expected one {part} under seats.{party}, found {count}")


def check_named(site: Site, plots: Sequence[Sequence[RoleId]], plot: str) -> None:
    """Refuse a part in a plot that is not there; ``plots`` are the plotters of each ``plot`` at the label holder.

    Raises:
        ConfigError: not one of them names this party.
    """
    if (count := sum(plotters.count(site.seat) for plotters in plots)) != 1:
        raise ConfigError(
            f"expected one {plot} under seats.{site.hub} that names {site.seat} among its plotters, found {count}"
        )


def opening_of(role: Role, at: type[LabelHolder] | type[FeatureParty]) -> Opening:
    """The prologue at a seat that `check_place` has let pass."""
    assert isinstance(role, at)
    assert isinstance(role.prologue, Opening)
    return role.prologue


@dataclass
class Deed:
    """What an attacker did, for the report."""

    kind: str
    numbers: dict[str, float] = field(default_factory=dict)
    knowledge: Knowledge = field(default_factory=lambda: Knowledge({}))

    def told(self) -> Told:
        """What says it in the end."""
        return lambda: {
            "kind": self.kind,
            "numbers": dict(self.numbers),
            "changes": [],
            "knowledge": {"granted": list(self.knowledge.granted), "used": sorted(self.knowledge.used)},
        }


def target_truth(knowledge: Knowledge) -> Tensor:
    """The labels of the target's training rows, or where only those are granted, pseudo-labels; (n,) int64."""
    pseudo = "pseudo_labels" in knowledge.granted and "target_labels" not in knowledge.granted
    truth: Tensor = knowledge.need("pseudo_labels" if pseudo else "target_labels")
    return truth


def drawn(count: int, of: int, what: str, rng: Rng) -> Tensor:
    """``count`` different numbers below ``of``, (count,) int64.

    Raises:
        ConfigError: there are fewer.
    """
    if count > of:
        raise ConfigError(f"rate: {count} {what} are asked of {of}")
    return torch.randperm(of, generator=rng.torch())[:count]


def alike(wanted: Tensor, labels: Tensor, width: int, rng: Rng) -> Tensor:
    """For each wanted class (n,), ``width`` rows of that class, drawn with replacement, (n, width) int64.

    Raises:
        ConfigError: a class has no row.
    """
    found = torch.empty(len(wanted), width, dtype=torch.int64)
    for c in sorted(set(wanted.tolist())):
        rows, here = torch.nonzero(labels == c).flatten(), wanted == c
        if not len(rows):
            raise ConfigError(f"no source record is of class {c}, which a poison record is to look like")
        picks = torch.randint(len(rows), (int(here.sum()), width), generator=rng.child(c).torch())
        found[here] = rows[picks]
    return found


def blend(source: Tensor, target: Tensor, alpha: float) -> Tensor:
    """``(1 - alpha) source + alpha target``."""
    return (1 - alpha) * source + alpha * target


def squares(one: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Squared distances of rows to their candidates, (n, K), without holding them all at once."""
    return torch.stack([(row - near).flatten(1).pow(2).sum(1) for row, near in zip(one, others, strict=True)])


def counted(rate: float, target: int) -> int:
    """How many records a rate is: of the target domain's training rows, at least one."""
    return max(1, round(rate * target))
