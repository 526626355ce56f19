"""A small convolutional network."""

from __future__ import annotations

from pydantic import Field, PositiveInt
from torch import nn

from fedsim.models import ModelConfig


class Cnn(ModelConfig):
    """Blocks of 3x3 convolution, ReLU and 2x2 max pooling, then one linear layer."""

    channels: tuple[PositiveInt, ...] = Field((16, 32), min_length=1, description="channels of each block")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        before, height, width = self.image(shape)
        layers: list[nn.Module] = []
        for channels in self.channels:
            layers += [nn.Conv2d(before, channels, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            before, height, width = channels, -(-height // 2), -(-width // 2)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * height * width, out))
