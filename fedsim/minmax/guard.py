"""Training against several attacks at once: how their losses are weighed, batch by batch.

Average and largest loss: Tramer and Boneh, Adversarial Training and Robustness for Multiple Perturbations, NeurIPS 2019.
Min-max weights, which lie between the two: Wang et al., NeurIPS 2021, AMPGD.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.minmax.balls import Ball
from fedsim.minmax.simplex import worst
from fedsim.plugins import Settings


class Guard(Settings):
    """What a federation is trained against: each party alone may move its own features, in each of these balls."""

    balls: tuple[Ball, ...] = Field(min_length=1, description="how far one party may move its features")
    parties: tuple[str, ...] = Field((), description="which parties may; none: every one of them")
    weigh: Literal["average", "max", "minmax"] = Field(
        "minmax",
        description="of a row's losses under all attacks: their average, the largest, or weighed by the worst weights",
    )
    gamma: float = Field(1.0, gt=0, description="of minmax: how strongly the weights are held together, nats")
    steps: int = Field(5, ge=1, description="steps of each attack, an exchange each, before a batch is learned from")

    def weights(self, losses: Tensor) -> Tensor:
        """Of each attack for each row, (K, B), for losses of that shape."""
        if self.weigh == "average":
            return torch.full_like(losses, 1 / len(losses))
        return worst(losses, self.gamma if self.weigh == "minmax" else 0.0)
