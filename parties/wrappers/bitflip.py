"""Bits of the weights turn over."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fedsim.bits import Stored
from fedsim.parties.wrappers._words import BitFault


class Bitflip(BitFault):
    """Flip single bits of the stored weights, once: a memory error, or somebody hammering on rows of memory."""

    paper: ClassVar[str] = "Rakin, He, Fan, Bit-Flip Attack, ICCV 2019; here bits are drawn, not searched for"

    def change(self, stored: Stored, mask: Tensor) -> Stored:
        """See `BitFault.change`."""
        return stored.flip(mask)
