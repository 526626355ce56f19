"""Weights on a grid."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.parties.wrappers._weights import Damage, WeightFault, Weights
from fedsim.seeding import Rng


class Quantise(WeightFault):
    """Round every weight to an even grid that spans its tensor, symmetric about 0; no entry moves by more than half a step.

    From a training step on, what is stored between steps is on the grid, so small updates are lost.
    """

    paper: ClassVar[str] = "Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, section 2.1"
    lasting: ClassVar[bool] = True

    bits: int = Field(8, ge=2, le=16, description="of a weight: 2^bits - 1 steps")

    def spoil(self, weights: Weights, rng: Rng) -> Damage:
        """See `WeightFault.spoil`; nothing is drawn."""
        after, largest = {}, 0.0
        for name, tensor in weights.items():
            step = float(tensor.abs().max()) / (2 ** (self.bits - 1) - 1)
            after[name] = (tensor / step).round() * step if step else tensor
            largest = max(largest, float((after[name] - tensor).abs().max()))
        return Damage(after, {"largest change": largest})
