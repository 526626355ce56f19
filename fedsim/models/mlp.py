"""Linear layers with ReLU between them."""

from __future__ import annotations

import math

from pydantic import Field, PositiveInt
from torch import nn

from fedsim.models import ModelConfig, flatten


class Mlp(ModelConfig):
    """A multi-layer perceptron with ReLU; its output has no activation."""

    hidden: tuple[PositiveInt, ...] = Field((64,), min_length=1, description="units of each hidden layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability after each hidden layer")
    bias: bool = Field(True, description="whether the first layer has a bias")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        layers: list[nn.Module] = flatten(shape)
        width, bias = math.prod(shape), self.bias
        for units in self.hidden:
            layers += [nn.Linear(width, units, bias=bias), nn.ReLU()]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            width, bias = units, True
        return nn.Sequential(*layers, nn.Linear(width, out))
