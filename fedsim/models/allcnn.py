"""A network of convolutions alone."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt
from torch import nn

from fedsim.models import ModelConfig


class AllCnn(ModelConfig):
    """3x3 convolutions, of which those of stride 2 stand where others pool; 1x1 to the classes, then the mean over all places.

    The paper's network A has channels [96, 192].
    """

    paper: ClassVar[str] = "Springenberg et al., Striving for Simplicity: The All Convolutional Net, arXiv 1412.6806"

    channels: tuple[PositiveInt, PositiveInt] = Field(
        (24, 48), description="channels of the first and the other layers"
    )

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        before, _, _ = self.image(shape)
        first, second = self.channels
        layers: list[nn.Module] = []
        for channels, stride in ((first, 1), (first, 2), (second, 1), (second, 2), (second, 1)):
            layers += [nn.Conv2d(before, channels, 3, stride, padding=1), nn.ReLU()]
            before = channels
        return nn.Sequential(*layers, nn.Conv2d(before, out, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
