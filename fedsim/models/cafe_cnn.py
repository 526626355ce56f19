"""The local network of the CAFE experiments."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt
from torch import nn

from fedsim.models import ModelConfig


class CafeCnn(ModelConfig):
    """Two 5x5 convolutions with ReLU and pooling, then three linear layers; the paper's width is channels [64, 128], units 256.

    The output has no activation: behind a ReLU, a row whose outputs are all clamped sends no gradient at all.
    """

    paper: ClassVar[str] = "Jin et al., CAFE, NeurIPS 2021, arXiv 2110.15122, experiments"

    channels: tuple[PositiveInt, PositiveInt] = Field((64, 128), description="channels of the two convolutions")
    units: int = Field(256, ge=1, description="width of the first fully connected layer")
    hidden: int = Field(64, ge=1, description="width of the second fully connected layer")
    dropout_input: float = Field(0.0, ge=0, lt=1, description="probability before the first fully connected layer")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="probability after each of the first two fully connected layers"
    )
    bias: bool = Field(True, description="whether the first fully connected layer has a bias")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        channels, height, width = self.image(shape)
        first, second = self.channels
        flat = second * -(-height // 4) * -(-width // 4)
        return nn.Sequential(
            *self._block(channels, first),
            *self._block(first, second),
            nn.Flatten(),
            *self._drop(self.dropout_input),
            *(nn.Linear(flat, self.units, bias=self.bias), nn.ReLU(), *self._drop(self.dropout)),
            *(nn.Linear(self.units, self.hidden), nn.ReLU(), *self._drop(self.dropout)),
            nn.Linear(self.hidden, out),
        )

    def _block(self, before: int, after: int) -> tuple[nn.Module, ...]:
        # pooling before ReLU: the same values, a quarter of the work
        return nn.Conv2d(before, after, 5, padding="same"), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()

    def _drop(self, probability: float) -> tuple[nn.Module, ...]:
        return (nn.Dropout(probability),) if probability else ()
