"""A passive party that poisons its own slice of records which others hold, too; every label stays true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedsim.message import Flow
from fedsim.net import Net
from fedsim.parties.features import FeatureParty
from fedsim.parties.opening import Records
from fedsim.parties.wrappers._around import Around, Told
from fedsim.parties.wrappers._plots import (
    TRUTH,
    Deed,
    blend,
    check_place,
    check_told,
    counted,
    drawn,
    opening_of,
    target_truth,
)
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Site, Wrapper


class PoisonedSlice(Wrapper):
    """In this party's slice, source records of one class become target records of the class before.

    Nothing is entered and no label is touched: a record of class y + 1 looks, in this slice, like a target record of class y.
    The party needs to know ``labels`` and ``target_labels`` or ``pseudo_labels``. Parties of the same ``plot`` choose
    the same pairs of records without a message.
    """

    resumes: ClassVar[bool] = True

    alpha: float = Field(1.0, ge=0, le=1, description="share of the target record in the slice")
    rate: float = Field(0.1, gt=0, le=1, description="poisoned records, as a share of the target's training rows")
    plot: int = Field(0, ge=0, description="parties with the same number poison the same records")

    def flows(self, site: Site) -> Sequence[Flow]:
        """See `Wrapper.flows`; nobody is asked."""
        check_place(site, "party")
        check_told(site, ("labels",), TRUTH)
        return ()

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`; the pairs follow from ``plot`` alone."""
        return Around(role, self._begin)

    def _begin(self, role: Role) -> Told:
        deed = Deed(self.kind())
        opening_of(role, FeatureParty).tampering.append(_Swap(self, deed))
        return deed.told()


class _Swap:
    def __init__(self, config: PoisonedSlice, deed: Deed) -> None:
        self.config, self.deed = config, deed

    async def conspire(self, records: Records, net: Net) -> None:
        """Nobody is asked."""

    def tamper(self, records: Records) -> Tensor:
        """Each chosen source row is blended with its target row."""
        self.deed.knowledge = records.knowledge
        source, target = self._pairs(records)
        rows = records.rows.clone()
        rows[source] = blend(rows[source], records.target(target), self.config.alpha)
        self.deed.numbers["rows altered"] = len(source)
        return rows

    def _pairs(self, records: Records) -> tuple[Tensor, Tensor]:
        """Source and target numbers, (n,) each: as many as asked, fewer where the class after has too few records."""
        labels, truth = records.knowledge.need("labels"), target_truth(records.knowledge)
        rng = Rng.root(self.config.plot).child("poisoned slice")
        count = counted(self.config.rate, records.sizes.target)
        target = drawn(count, records.sizes.target, "target records", rng.child("target"))
        wanted = (truth[target] + 1) % (int(labels.max()) + 1)
        pairs = []
        for c in sorted(set(wanted.tolist())):
            there, here = target[wanted == c], torch.nonzero(labels == c).flatten()
            order = torch.randperm(len(here), generator=rng.child("source", c).torch())
            few = min(len(there), len(here))
            pairs.append((here[order[:few]], there[:few]))
        return torch.cat([s for s, _ in pairs]), torch.cat([t for _, t in pairs])
