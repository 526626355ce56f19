"""Features with an offset."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fedsim.parties.wrappers._inputs import InputFault
from fedsim.seeding import Rng


class Shifted(InputFault):
    """Scale every feature of the party and add an offset: a sensor out of calibration."""

    by: float = Field(0.5, description="offset, in units of the encoded feature")
    scale: float = Field(1.0, description="factor")

    def corrupt(self, rows: Tensor, rng: Rng) -> Tensor:
        """See `InputFault.corrupt`; nothing is drawn."""
        return self.scale * rows + self.by
