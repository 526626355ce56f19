"""Gaussian noise on the weights."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from fedsim.parties.wrappers._weights import Damage, WeightFault, Weights
from fedsim.seeding import Rng


class Gaussian(WeightFault):
    """Add independent Gaussian noise to every weight, once: analogue memory, or an edit that hides in the noise."""

    sigma: float = Field(0.1, gt=0, description="standard deviation of the noise")
    scale: Literal["absolute", "relative"] = Field(
        "relative", description="relative: times the standard deviation of the tensor at hand"
    )

    def spoil(self, weights: Weights, rng: Rng) -> Damage:
        """See `WeightFault.spoil`."""
        after, largest = {}, 0.0
        for name, tensor in weights.items():
            unit = float(tensor.std(correction=0)) if self.scale == "relative" else 1.0
            noise = self.sigma * unit * torch.randn(tensor.shape, generator=rng.child(name).torch())
            after[name] = tensor + noise
            largest = max(largest, float(noise.abs().max()))
        return Damage(after, {"largest change": largest})
