"""A party in the plot of a label holder: of what is entered it takes the values that the label holder crafted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedsim.errors import ProtocolError
from fedsim.message import Flow
from fedsim.net import Net
from fedsim.parties.features import FeatureParty
from fedsim.parties.opening import Crafted, Records
from fedsim.parties.wrappers._around import Around, Told
from fedsim.parties.wrappers._plots import Deed, check_named, check_place, opening_of
from fedsim.parties.wrappers.feature_collision import FeatureCollision
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Site, Wrapper


class CraftedSlice(Wrapper):
    """In this party's slice, a record that `feature_collision` enters is what the label holder says.

    The label holder must name this party among its plotters.
    """

    resumes: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Mehra et al., Understanding the Limits of Unsupervised Domain Adaptation via Data Poisoning, 2021"
    )

    def flows(self, site: Site) -> Sequence[Flow]:
        """See `Wrapper.flows`; the label holder's plot says what flows."""
        check_place(site, "party")
        plots = [each.plotters for each in site.wrappers.get(site.hub, ()) if isinstance(each, FeatureCollision)]
        check_named(site, plots, FeatureCollision.kind())
        return ()

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, self._begin)

    def _begin(self, role: Role) -> Told:
        deed = Deed(self.kind())
        opening_of(role, FeatureParty).tampering.append(_Taking(deed))
        return deed.told()


class _Taking:
    def __init__(self, deed: Deed) -> None:
        self.deed = deed
        self._rows: Tensor | None = None

    async def conspire(self, records: Records, net: Net) -> None:
        """Learn what is to be entered."""
        self._rows = (await net.recv(net.hub, Crafted, 0)).rows

    def tamper(self, records: Records) -> Tensor:
        """The entered rows, which come last, become those."""
        assert self._rows is not None, "conspire comes first"
        entered = records.rows[-len(self._rows) :]
        if self._rows.shape != entered.shape:
            raise ProtocolError(f"crafted rows have shape {tuple(self._rows.shape)}, expected {tuple(entered.shape)}")
        self.deed.numbers |= {
            "rows crafted": len(entered),
            "largest change": float((self._rows - entered).abs().max()),
        }
        return torch.cat([records.rows[: -len(self._rows)], self._rows])
