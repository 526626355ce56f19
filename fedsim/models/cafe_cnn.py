"""The local network of the CAFE experiments."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn

from fedsim.models import ModelConfig


class CafeCnn(ModelConfig):
    """Two 5x5 convolutions with ReLU and pooling, then three linear layers; the paper's width is channels [64, 128], units 256.

    The output has no activation: behind a ReLU, a row whose outputs are all clamped sends no gradient at all.
    """

    paper: ClassVar[str] = "Jin et al., CAFE, NeurIPS 2021, arXiv 2110.15122, experiments"

    channels: tuple[int, int] = Field((64, 128), description="channels of the two convolutions")
    units: int = Field(256, ge=1, description="width of the first fully connected layer")
    hidden: int = Field(64, ge=1, description="width of the second fully connected layer")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        channels, height, width = self.image(shape)
        first, second = self.channels
        flat = second * -(-height // 4) * -(-width // 4)
        return nn.Sequential(
            *(nn.Conv2d(channels, first, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
            *(nn.Conv2d(first, second, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
            *(nn.Flatten(), nn.Linear(flat, self.units), nn.ReLU()),
            *(nn.Linear(self.units, self.hidden), nn.ReLU(), nn.Linear(self.hidden, out)),
        )
