"""Poisoned records: what the wrappers that put them into a federation over two domains have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedsim.errors import ConfigError, ThreatModelError
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Knowledge
from parties.features import FeatureParty
from parties.labels import LabelHolder
from parties.opening import Opening
from parties.wrappers._around import Told


def opening_of(role: Role, kind: str, at: type[LabelHolder] | type[FeatureParty]) -> Opening:
    """The prologue at a seat.

    Raises:
        ThreatModelError: this is another kind of seat, or the federation has one domain only.
    """
    if not isinstance(role, at):
        wanted = "the label holder" if at is LabelHolder else "a party with features"
        raise ThreatModelError(f"{kind}: expected {wanted}, found a {type(role).__name__}")
    if not isinstance(role.prologue, Opening):
        raise ThreatModelError(f"{kind}: expected a federation over two domains, such as scenario kind 'uda_poisoning'")
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
