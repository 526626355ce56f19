"""A small convolutional network with group normalisation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt
from torch import nn

from fedsim.errors import ConfigError
from fedsim.models import ModelConfig


class NormCnn(ModelConfig):
    """3x3 convolutions, group normalisation and ReLU, each after the first with stride 2, then one linear layer.

    Statistics are those of a row alone, so clean and attacked rows share the network and none needs a copy of its own.
    """

    paper: ClassVar[str] = "Wu and He, Group Normalization, ECCV 2018, arXiv 1803.08494"

    channels: tuple[PositiveInt, ...] = Field((16, 32, 64), min_length=1, description="channels of each convolution")
    groups: int = Field(4, ge=1, description="groups of channels; must divide all channels")
    first_stride: int = Field(1, ge=1, description="stride of the first convolution")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        before, height, width = self.image(shape)
        layers: list[nn.Module] = []
        for i, channels in enumerate(self.channels):
            stride = 2 if i else self.first_stride
            layers += [nn.Conv2d(before, channels, 3, stride, padding=1, bias=False), *grouped(self.groups, channels)]
            before, height, width = channels, -(-height // stride), -(-width // stride)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * height * width, out))


def grouped(groups: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """Group normalisation and ReLU.

    Raises:
        ConfigError: the groups do not divide the channels.
    """
    if channels % groups:
        raise ConfigError(f"groups: {groups} do not divide {channels} channels")
    return nn.GroupNorm(groups, channels), nn.ReLU()
