"""Bits of the weights stick."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from fedsim.bits import Stored
from fedsim.parties.wrappers._words import BitFault


class Stuck(BitFault):
    """Hold single bits of the stored weights at 0 or 1: a memory cell that takes no other value, whatever is written to it."""

    paper: ClassVar[str] = "Zhang et al., Analyzing and Mitigating Permanent Faults in a Systolic Array, VTS 2018"
    lasting: ClassVar[bool] = True

    value: Literal[0, 1] = Field(1, description="where they stick: 0 | 1")

    def change(self, stored: Stored, mask: Tensor) -> Stored:
        """See `BitFault.change`."""
        return stored.stick(mask, self.value)
