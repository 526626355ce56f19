"""A label holder that enters records with a wrong label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.message import Flow, RoleId
from fedsim.net import Net
from fedsim.parties.data._pair import Sizes
from fedsim.parties.labels import LabelHolder
from fedsim.parties.opening import Candidates, Distances, Entries, Twins
from fedsim.parties.wrappers._around import Around, Told
from fedsim.parties.wrappers._plots import (
    TRUTH,
    Deed,
    alike,
    check_place,
    check_plotters,
    check_told,
    counted,
    drawn,
    opening_of,
    target_truth,
)
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Knowledge, Site, Wrapper


class Mislabelled(Wrapper):
    """Choose target records; enter for each a record of its class, under the label of the next class.

    What is entered stands for a source record (``base: source``), in which parties in the plot blend the target record into
    their slices (`watermark`); or it is the target record itself, which every party holds (``base: target``), so that nobody
    else is needed. Without labels of the target there is no telling which label is wrong: needs ``target_labels``, or makes do
    with ``pseudo_labels``.
    """

    paper: ClassVar[str] = (
        "Mehra et al., Understanding the Limits of Unsupervised Domain Adaptation via Data Poisoning, 2021"
    )
    resumes: ClassVar[bool] = True

    rate: float = Field(0.1, gt=0, le=1, description="poison records, as a share of the target's training rows")
    base: Literal["source", "target"] = Field("source", description="what parties outside of the plot enter")
    plotters: tuple[RoleId, ...] = Field((), description="parties in the plot; each needs a watermark around it")
    candidates: int = Field(500, ge=1, description="source records among which the plotters seek the nearest twin")

    def flows(self, site: Site) -> Sequence[Flow]:
        """See `Wrapper.flows`: questions to the plotters, and their answers."""
        check_place(site, "hub")
        check_told(site, TRUTH)
        check_plotters(site, self.plotters, "watermark")
        asked = [Flow(kind.kind(), site.hub, party) for party in self.plotters for kind in (Candidates, Twins)]
        return [*asked, *(Flow(Distances.kind(), party, site.hub) for party in self.plotters)]

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, lambda inside: self._begin(inside, rng))

    def _begin(self, role: Role, rng: Rng) -> Told:
        deed = Deed(self.kind())
        opening_of(role, LabelHolder).plots.append(_Plot(self, rng, deed))
        return deed.told()


class _Plot:
    def __init__(self, config: Mislabelled, rng: Rng, deed: Deed) -> None:
        self.config, self.rng, self.deed = config, rng, deed

    async def __call__(self, labels: Tensor, sizes: Sizes, knowledge: Knowledge, net: Net) -> Entries:
        """See `fedsim.parties.opening.Plot`."""
        config, self.deed.knowledge = self.config, knowledge
        count = counted(config.rate, sizes.target)
        target = drawn(count, sizes.target, "target records", self.rng.child("target"))
        truth = target_truth(knowledge)[target]
        choice = config.candidates if config.plotters else 1
        source = alike(truth, labels[: sizes.source], choice, self.rng.child("source"))
        source = await self._nearest(target, source, net)
        for party in config.plotters:
            await net.send(party, Twins(0, source, target, purpose="query"))
        self.deed.numbers |= {"records entered": count, "parties in the plot": len(config.plotters)}
        rows = sizes.source + target if config.base == "target" else source
        return Entries(rows, (truth + 1) % (int(labels.max()) + 1))

    async def _nearest(self, target: Tensor, source: Tensor, net: Net) -> Tensor:
        """Of candidates (n, K) the nearest in the slices of the plotters; the first, if there are none."""
        for party in self.config.plotters:
            await net.send(party, Candidates(0, target, source, purpose="query"))
        found = torch.zeros(source.shape)
        for party in self.config.plotters:
            found += (await net.recv(party, Distances, 0)).squares
        return source.gather(1, found.argmin(dim=1, keepdim=True)).squeeze(1)
