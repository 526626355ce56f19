"""Gaussian noise on whatever passes."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.channel import Stage
from fedsim.message import Message, with_tensors
from fedsim.seeding import Rng
from fedsim.threat import Defence


class GaussianNoise(Defence):
    """Add independent Gaussian noise to every number of a message; without clipping it comes with no privacy guarantee."""

    paper: ClassVar[str] = "Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014, appendix A"

    sigma: float = Field(0.1, gt=0, description="standard deviation of the noise")
    scale: Literal["absolute", "relative"] = Field(
        "absolute", description="relative: times the standard deviation of the tensor at hand"
    )

    def stage(self) -> Stage[Rng]:
        """Noise of a named node for each kind, purpose, step and tensor; the state is that node."""

        def apply(message: Message, rng: Rng) -> tuple[Message, Rng]:
            def noisy(name: str, tensor: Tensor) -> Tensor:
                noise = torch.randn(
                    tensor.shape, generator=rng.child(message.kind(), message.purpose, message.step, name).torch()
                )
                unit = tensor.std(correction=0) if self.scale == "relative" else 1.0
                return tensor + (self.sigma * unit * noise).to(tensor.dtype)

            return with_tensors(message, noisy), rng

        return Stage(lambda rng: rng, apply)
