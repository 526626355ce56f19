"""One linear layer."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import nn

from fedsim.models import ModelConfig, flatten


class Linear(ModelConfig):
    """One linear layer with a bias."""

    activation: Literal["none", "relu"] = Field("none", description="what follows the layer: none | relu")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        layers: list[nn.Module] = [*flatten(shape), nn.Linear(math.prod(shape), out)]
        return nn.Sequential(*layers, *([nn.ReLU()] if self.activation == "relu" else []))
