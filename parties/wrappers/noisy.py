"""Features with noise."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fedsim.parties.wrappers._inputs import InputFault
from fedsim.seeding import Rng


class Noisy(InputFault):
    """Add independent Gaussian noise to every feature of the party."""

    sigma: float = Field(0.5, gt=0, description="standard deviation of the noise, in units of the encoded feature")

    def corrupt(self, rows: Tensor, rng: Rng) -> Tensor:
        """See `InputFault.corrupt`."""
        return rows + self.sigma * torch.randn(rows.shape, generator=rng.torch())
