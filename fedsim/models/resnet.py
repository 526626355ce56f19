"""Residual networks for small images, with group normalisation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from fedsim.models import ModelConfig
from fedsim.models.norm_cnn import grouped


class Resnet(ModelConfig):
    """Basic blocks behind a 3x3 convolution without pooling, then the mean over the image and one linear layer.

    With blocks [2, 2, 2, 2] and width 64 it is ResNet-18 as it is used on CIFAR, but for the normalisation.
    """

    paper: ClassVar[str] = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385"

    blocks: tuple[PositiveInt, ...] = Field((2, 2, 2, 2), min_length=1, description="blocks of each stage")
    width: int = Field(64, ge=1, description="channels of the first stage; each further stage has twice as many")
    groups: int = Field(8, ge=1, description="groups of channels; must divide all channels")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        channels = self.width
        layers: list[nn.Module] = [nn.Conv2d(self.image(shape)[0], channels, 3, padding=1, bias=False)]
        layers += grouped(self.groups, channels)
        before = channels
        for stage, blocks in enumerate(self.blocks):
            channels = self.width * 2**stage
            for nth in range(blocks):
                layers.append(_Block(before, channels, 2 if stage and not nth else 1, self.groups))
                before = channels
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, out))


class _Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(before, channels, 3, stride, padding=1, bias=False),
            *grouped(groups, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, channels),
        )
        self.short = nn.Sequential()
        if stride > 1 or before != channels:
            self.short = nn.Sequential(
                nn.Conv2d(before, channels, 1, stride, bias=False), nn.GroupNorm(groups, channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.inner(x) + self.short(x))
