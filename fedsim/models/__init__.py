"""Networks by kind: bottoms and tops alike. An attacker that is granted an architecture builds it from here."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from fedsim.errors import ConfigError
from fedsim.plugins import Plugin


class ModelConfig(Plugin, ABC):
    """The settings of a network; one subclass a file in ``fedsim/models``."""

    @abstractmethod
    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """A network from rows of ``shape``, (D,) or (C, H, W), to (B, out). Draws its weights from torch's global stream.

        Raises:
            ConfigError: rows of this shape do not fit.
        """

    def image(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """``shape`` as (C, H, W).

        Raises:
            ConfigError: rows are not images.
        """
        if len(shape) != 3:
            raise ConfigError(f"model kind '{self.kind()}' takes images (C, H, W); these rows have shape {shape}")
        return shape[0], shape[1], shape[2]


def flatten(shape: tuple[int, ...]) -> list[nn.Module]:
    """What makes rows of ``shape`` flat: nothing, if they are."""
    return [] if len(shape) == 1 else [nn.Flatten()]
