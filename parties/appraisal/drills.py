"""What is tried on a trained federation: the rows of the resilience table, and one seat's part in each.

A drill puts a wrapper, as ``seats:`` would, around a copy of what sits at a seat; the seat itself stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedsim.message import RoleId
from fedsim.parties.appraisal import Appraisal, Resilience
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder
from fedsim.parties.wrappers._around import Around
from fedsim.plugins import load
from fedsim.resilience import Axis
from fedsim.seeding import Rng
from fedsim.threat import Wrapper
from fedsim.vfl.schedule import Schedule, Turn, pass_over


@dataclass(frozen=True)
class Drill:
    """One row of the table: a wrapper at a seat.

    Attributes:
        axis, level: what is done, and how much of it.
        seat: where; ``top`` if it befalls the top model, not the bottom at that seat.
        made: the wrapper with its settings.
        seeds: those it is drawn from, one after the other.
    """

    axis: str
    level: float
    seat: RoleId
    top: bool
    made: Mapping[str, Any]
    seeds: range

    @property
    def named(self) -> str:
        """The wrapper and all its settings: ``missing (rate=0.3)``."""
        given = [f"{name}={value}" for name, value in self.made.items() if name != "kind"]
        return f"{self.made['kind']} ({', '.join(given)})" if given else str(self.made["kind"])

    @property
    def wrapper(self) -> Wrapper:
        """The wrapper itself."""
        return load("wrappers", Wrapper, self.made)

    def rng(self, seed: int) -> Rng:
        """What the wrapper draws from, were it the first around its seat in a run of this public seed."""
        return Rng.root(seed).child("wrapper", self.seat, 0)


def axes(asked: Resilience) -> list[Axis]:
    """The axes of the table: where the levels lie on each. Bits and flips have no scale of their own: they lie evenly."""
    return [
        Axis("absent", (1.0,), (1.0,)),
        Axis("noisy", asked.noisy, asked.noisy),
        Axis("missing", asked.missing, asked.missing),
        Axis("shifted", asked.shifted, asked.shifted),
        Axis(
            "quantised weights",
            tuple(map(float, asked.quantise)),
            tuple(float(i + 1) for i in range(len(asked.quantise))),
        ),
        Axis("flipped bits", tuple(map(float, asked.bitflip)), tuple(float(i + 1) for i in range(len(asked.bitflip)))),
    ]


def drills(plan: Appraisal, seat: RoleId, top: bool = False) -> Iterator[Drill]:
    """What is tried at one seat, in order; for a party, first that it is absent."""
    asked = plan.resilience
    first = asked.seed if asked else 0
    once, several = range(first, first + 1), range(first, first + (asked.draws if asked else 1))
    if not top:
        yield Drill("absent", 1.0, seat, False, {"kind": "absent"}, once)
    if asked is None:
        return
    if not top:
        for sigma in asked.noisy:
            yield Drill("noisy", sigma, seat, False, {"kind": "noisy", "sigma": sigma}, several)
        for rate in asked.missing:
            yield Drill("missing", rate, seat, False, {"kind": "missing", "rate": rate}, several)
        for by in asked.shifted:
            yield Drill("shifted", by, seat, False, {"kind": "shifted", "by": by}, once)
    layers = {"layers": ["top.*"]} if top else {}
    for bits in asked.quantise:
        yield Drill("quantised weights", bits, seat, top, {"kind": "quantise", "bits": bits, **layers}, once)
    for count in asked.bitflip:
        yield Drill("flipped bits", count, seat, top, {"kind": "bitflip", "count": count, **layers}, several)


def begin(drill: Drill, role: FeatureParty | LabelHolder, seed: int) -> None:
    """Put the wrapper of a drill around a role, which is a copy."""
    around = drill.wrapper.wrap(role, drill.rng(seed))
    assert isinstance(around, Around), "wrappers of this package make nothing else"
    around.begin()


def copy_of_party(party: FeatureParty, training_rows: bool = False) -> FeatureParty:
    """A party whose bottom may be spoilt, with its held-out rows only unless training rows are needed."""
    twin = copy.copy(party)
    twin.bottom = copy.copy(party.bottom)
    twin.bottom.network = copy.deepcopy(party.bottom.network)
    twin.bottom.distortions, twin.bottom.replies = list(party.bottom.distortions), list(party.bottom.replies)
    if not training_rows:
        twin.bottom.features = {"evaluate": party.bottom.features["evaluate"]}
    return twin


def copy_of_hub(hub: LabelHolder) -> LabelHolder:
    """A hub whose top may be spoilt; the bottom at its seat is no copy."""
    twin = copy.copy(hub)
    twin.top = copy.deepcopy(hub.top)
    return twin


def turns(schedule: Schedule, nth: int) -> list[Turn]:
    """The pass over the held-out rows that the n-th variant of a party makes, after those of the training."""
    there = len(list(pass_over("evaluate", schedule.test)))
    return list(pass_over("evaluate", schedule.test, schedule.total + nth * there, schedule.steps))
