"""Before a federation over two domains trains: facts are granted, and the label holder may enter records.

Training rows lie at every seat in one order: source, target, then what was entered. An entered record stands for one that
every party holds already: an honest party enters that record of its own once more. What the label holder says of its label,
nobody else can check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from fedsim.errors import ProtocolError
from fedsim.message import Message, RoleId
from fedsim.net import Net
from fedsim.parties.data._pair import Sizes
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder
from fedsim.parties.rehearsal import Rehearse, Slices
from fedsim.seeding import Rng
from fedsim.threat import Knowledge
from fedsim.vfl.bottom import Distortion
from fedsim.vfl.schedule import Pool, Schedule

Fact = Literal["labels", "target_labels", "pseudo_labels", "slices"]
"""What an attacker can be granted.

The labels of the source; those of the target, which no learner has; what a rehearsal of the training says these are; or, the
label holder alone, what every party holds, from which it can rehearse itself.
"""
TOLD: tuple[Fact, ...] = ("pseudo_labels", "slices")
"""Facts for which every party sends the label holder its slice."""


@dataclass(frozen=True, eq=False)
class Granted(Message):
    """One fact, on its way to an attacker: ``values`` (n,) int64."""

    about: str
    values: Tensor


@dataclass(frozen=True, eq=False)
class Slice(Message):
    """To the label holder: what this party holds, encoded, where the label holder is granted as much."""

    train: Tensor
    held_out: Tensor


@dataclass(frozen=True, eq=False)
class Candidates(Message):
    """To a party in the plot: which source records (n, K) could be the twin of each of some target records (n,)."""

    target: Tensor
    source: Tensor


@dataclass(frozen=True, eq=False)
class Distances(Message):
    """Back: the squared distances in this party's slice, (n, K)."""

    squares: Tensor


@dataclass(frozen=True, eq=False)
class Twins(Message):
    """To a party in the plot: which source record and which target record it is to blend, (n,) each."""

    source: Tensor
    target: Tensor


@dataclass(frozen=True, eq=False)
class Crafted(Message):
    """To a party in the plot: what is to stand in its slice of the records that are entered, (n, ...)."""

    rows: Tensor


@dataclass(frozen=True, eq=False)
class Entered(Message):
    """To every party: which of its records are entered once more, (n,); often none."""

    rows: Tensor


class Entries(NamedTuple):
    """What the label holder enters: ``rows`` as in `Entered`, ``labels`` (n,)."""

    rows: Tensor
    labels: Tensor


def kinds(grants: Mapping[RoleId, Sequence[Fact]], party: RoleId) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The kinds of message from a party to the hub and back, without those of a plot."""
    up, granted = (Slice.kind(),) * _tells(grants), (Granted.kind(),) * bool(grants.get(party))
    return up, (*granted, Entered.kind())


@dataclass
class Records:
    """A party's training rows before the training, (N, ...), which an attacker at its seat may change.

    Attributes:
        rows: source, target, and at the end what was entered.
        sizes: how many there are of each domain.
        knowledge: what was granted here.
    """

    rows: Tensor
    sizes: Sizes
    knowledge: Knowledge

    def target(self, ids: Tensor) -> Tensor:
        """Target records by their number in the target domain."""
        return self.rows[self.sizes.source + ids]


class Plot(Protocol):
    """What a label holder does before the training."""

    async def __call__(self, labels: Tensor, sizes: Sizes, knowledge: Knowledge, net: Net) -> Entries:
        """Records to enter; ``labels`` (N,) are the learner's, -1 for the target."""


class Tampering(Protocol):
    """What a party does to its own slice before the training."""

    async def conspire(self, records: Records, net: Net) -> None:
        """Before anything is entered: agree with the label holder, if that is the plot."""

    def tamper(self, records: Records) -> Tensor:
        """The rows it trains on instead, of the same shape."""


class Opening:
    """The prologue of one seat (`fedsim.parties.vertical.Prologue`).

    Attributes:
        plots: at the hub, what enters records, in order.
        tampering: at a party, what befalls its slice, in order.
        pretext: at a party, what the learner has it do to rows on their way to the bottom.
        rehearse: makes a federation like this one at one seat, from slices that were told.
    """

    def __init__(
        self,
        sizes: Sizes,
        grants: Mapping[RoleId, Sequence[Fact]],
        truths: Mapping[str, Tensor],
        pretext: Distortion,
        rehearse: Rehearse,
        rng: Rng,
    ) -> None:
        self.sizes, self.grants, self.truths, self.pretext = sizes, grants, dict(truths), pretext
        self.rehearse, self._rng = rehearse, rng
        self._told = _tells(grants)
        self.plots: list[Plot] = []
        self.tampering: list[Tampering] = []

    async def at_hub(self, hub: LabelHolder, net: Net) -> None:
        """Disclose what is granted, carry out plots, tell every party what is entered."""
        facts: dict[str, Any] = dict(self.truths)
        if self._told:
            facts["slices"] = slices = await self._slices(hub, net)
            if any("pseudo_labels" in granted for granted in self.grants.values()):
                facts["pseudo_labels"] = self._pseudo_labels(hub, slices)
        for party in hub.parties:
            for fact in self.grants.get(party, ()):
                await net.send(party, Granted(_step(fact), fact, facts[fact], purpose="query"))
        knowledge = Knowledge({str(fact): facts[fact] for fact in self.grants.get(net.me, ())})
        entries = [await plot(hub.top.labels, self.sizes, knowledge, net) for plot in self.plots]
        rows = torch.cat([torch.empty(0, dtype=torch.int64), *(each.rows for each in entries)])
        for party in hub.parties:
            await net.send(party, Entered(0, rows, purpose="query"))
        hub.top.labels = torch.cat([hub.top.labels, *(each.labels for each in entries)])
        hub.schedule = self._widened(hub.schedule, len(rows))

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """Take what is granted, enter what the label holder says, and whatever an attacker at this seat does besides."""
        if self._told:
            features = party.bottom.features
            await net.send(net.hub, Slice(0, features["train"], features["evaluate"], purpose="query"))
        granted: dict[str, Tensor] = {}
        for fact in self.grants.get(net.me, ()):
            granted[fact] = (await net.recv(net.hub, Granted, _step(fact))).values
        records = Records(party.bottom.features["train"], self.sizes, Knowledge(granted))
        for each in self.tampering:
            await each.conspire(records, net)
        rows = (await net.recv(net.hub, Entered, 0)).rows
        known = range(self.sizes.source + self.sizes.target)
        if rows.ndim != 1 or any(row not in known for row in rows.tolist()):
            raise ProtocolError(f"{net.hub} enters records that {net.me} does not have; it has {len(known)}")
        records.rows = torch.cat([records.rows, records.rows[rows]])
        for each in self.tampering:
            records.rows = each.tamper(records)
        party.bottom.distortions.append(self.pretext)
        party.bottom.features = {**party.bottom.features, "train": records.rows}
        party.schedule = self._widened(party.schedule, len(rows))

    async def _slices(self, hub: LabelHolder, net: Net) -> Slices:
        told, known = await net.gather(Slice, 0, hub.parties), self.sizes.source + self.sizes.target
        for party, each in told.items():
            if (len(each.train), len(each.held_out)) != (known, len(hub.held_out)):
                found = f"{len(each.train)} training and {len(each.held_out)} held-out rows"
                raise ProtocolError(f"{party} tells {found} of its slice; expected {known} and {len(hub.held_out)}")
        return Slices({p: t.train for p, t in told.items()}, {p: t.held_out for p, t in told.items()})

    def _pseudo_labels(self, hub: LabelHolder, slices: Slices) -> Tensor:
        """What the model of a whole rehearsal takes the target's training rows for, (target,)."""
        rehearsal = self.rehearse(slices.train, hub.top.labels, self._rng)
        rehearsal.play(rehearsal.steps)
        return rehearsal.label({party: rows[self.sizes.source :] for party, rows in slices.train.items()})

    def _widened(self, schedule: Schedule, entered: int) -> Schedule:
        train = self.sizes.source + self.sizes.target + entered
        return replace(schedule, train=train, pools=pools(self.sizes, entered))


def pools(sizes: Sizes, entered: int = 0) -> tuple[Pool, Pool]:
    """Labelled and unlabelled training rows."""
    known = sizes.source + sizes.target
    return (range(sizes.source), range(known, known + entered)), (range(sizes.source, known),)


def _tells(grants: Mapping[RoleId, Sequence[Fact]]) -> bool:
    """Whether parties tell the label holder their slices."""
    return any(fact in TOLD for facts in grants.values() for fact in facts)


def _step(fact: Fact) -> int:
    return get_args(Fact).index(fact)
