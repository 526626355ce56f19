"""Training labels that are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedsim.errors import ThreatModelError
from fedsim.message import Flow
from fedsim.parties.labels import LabelHolder
from fedsim.parties.wrappers._around import Around, Told, check_hub
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Site, Wrapper


class WrongLabels(Wrapper):
    """At the label holder, a share of the training rows has the label of another class, drawn evenly."""

    resumes: ClassVar[bool] = True

    rate: float = Field(0.1, gt=0, le=1, description="share of the training rows, to the nearest row")

    def flows(self, site: Site) -> Sequence[Flow]:
        """See `Wrapper.flows`."""
        check_hub(site)
        return ()

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, lambda inside: self._begin(inside, rng))

    def _begin(self, role: Role, rng: Rng) -> Told:
        if not isinstance(role, LabelHolder):
            raise ThreatModelError(f"{self.kind()}: expected the label holder, found a {type(role).__name__}")
        role.top.labels, count = self.corrupt(role.top.labels, len(role.classes.classes), rng)
        return lambda: {"kind": self.kind(), "numbers": {"wrong labels": count}, "changes": []}

    def corrupt(self, labels: Tensor, classes: int, rng: Rng) -> tuple[Tensor, int]:
        """Labels (N,) of which so many are wrong, and how many; what has no label (-1) stays without."""
        known, generator = torch.nonzero(labels >= 0).flatten(), rng.torch()
        count = round(self.rate * len(known))
        rows = known[torch.randperm(len(known), generator=generator)[:count]]
        step = torch.randint(1, classes, (count,), generator=generator)
        wrong = labels.clone()
        wrong[rows] = (labels[rows] + step) % classes
        return wrong, count
