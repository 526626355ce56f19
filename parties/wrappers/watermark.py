"""A party in the plot of a label holder: it blends target records into what is entered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedsim.message import Flow
from fedsim.net import Net
from fedsim.parties.features import FeatureParty
from fedsim.parties.opening import Candidates, Distances, Records, Twins
from fedsim.parties.wrappers._around import Around, Told
from fedsim.parties.wrappers._plots import Deed, blend, check_named, check_place, opening_of, squares
from fedsim.parties.wrappers.mislabelled import Mislabelled
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Site, Wrapper


class Watermark(Wrapper):
    """In this party's slice, a record that `mislabelled` enters is (1 - alpha) source + alpha target.

    The label holder must name this party among its plotters.
    """

    paper: ClassVar[str] = (
        "Mehra et al., Understanding the Limits of Unsupervised Domain Adaptation via Data Poisoning, 2021"
    )
    resumes: ClassVar[bool] = True

    alpha: float = Field(1.0, ge=0, le=1, description="share of the target record; 1: all of it, 0: none")

    def flows(self, site: Site) -> Sequence[Flow]:
        """See `Wrapper.flows`; the label holder's plot says what flows."""
        check_place(site, "party")
        plots = [each.plotters for each in site.wrappers.get(site.hub, ()) if isinstance(each, Mislabelled)]
        check_named(site, plots, Mislabelled.kind())
        return ()

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, self._begin)

    def _begin(self, role: Role) -> Told:
        deed = Deed(self.kind())
        opening_of(role, FeatureParty).tampering.append(_Blending(self.alpha, deed))
        return deed.told()


class _Blending:
    def __init__(self, alpha: float, deed: Deed) -> None:
        self.alpha, self.deed = alpha, deed
        self._twins: Twins | None = None

    async def conspire(self, records: Records, net: Net) -> None:
        """Say how near candidates are in this slice, learn which twins were chosen."""
        asked = await net.recv(net.hub, Candidates, 0)
        found = squares(records.target(asked.target), [records.rows[near] for near in asked.source])
        await net.send(net.hub, Distances(0, found, purpose="query"))
        self._twins = await net.recv(net.hub, Twins, 0)

    def tamper(self, records: Records) -> Tensor:
        """The entered rows, which come last, are blended."""
        assert self._twins is not None, "conspire comes first"
        twins = self._twins
        poison = blend(records.rows[twins.source], records.target(twins.target), self.alpha)
        self.deed.numbers["rows blended"] = len(poison)
        return torch.cat([records.rows[: -len(poison)], poison])
