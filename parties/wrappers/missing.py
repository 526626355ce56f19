"""Features that are not there."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fedsim.parties.wrappers._inputs import InputFault
from fedsim.seeding import Rng


class Missing(InputFault):
    """Lose features at random: a lost number reads as 0, the mean of a standardised column and black in an image."""

    rate: float = Field(0.3, gt=0, le=1, description="probability of each feature of each row to be lost")

    def corrupt(self, rows: Tensor, rng: Rng) -> Tensor:
        """See `InputFault.corrupt`."""
        lost = torch.rand(rows.shape, generator=rng.torch()) < self.rate
        return rows.masked_fill(lost, 0.0)
