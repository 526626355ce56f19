"""One linear layer."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import nn

from fedsim.models import ModelConfig, flatten


class Linear(ModelConfig):
    """One linear layer."""

    activation: Literal["none", "relu"] = Field("none", description="what follows the layer: none | relu")
    bias: bool = Field(True, description="whether the layer has a bias; without one CAFE's step I has nothing to go on")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        layers: list[nn.Module] = [*flatten(shape), nn.Linear(math.prod(shape), out, bias=self.bias)]
        return nn.Sequential(*layers, *([nn.ReLU()] if self.activation == "relu" else []))
