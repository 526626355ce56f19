"""What a party may do to its own training rows before they enter its bottom."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedsim.errors import ConfigError
from fedsim.plugins import Settings
from fedsim.seeding import Rng


class Augment(Settings):
    """Random shifts of images; each party shifts its own part by itself, so nothing has to be agreed on."""

    shift: int = Field(ge=1, description="most pixels an image moves in each direction; zeros move in")

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse rows of a shape other than (C, H, W).

        Raises:
            ConfigError: the rows are not images.
        """
        if len(shape) != 3:
            raise ConfigError(f"scenario.augment: only images can be shifted; these rows have shape {shape}")

    def shifted(self, images: Tensor, rng: Rng) -> Tensor:
        """Each image (B, C, H, W) moved by its own whole numbers of pixels in [-shift, shift].

        Raises:
            ConfigError: the rows are not images.
        """
        self.check(tuple(images.shape[1:]))
        (count, _, height, width), most = images.shape, self.shift
        padded = functional.pad(images, (most, most, most, most))
        down, right = torch.randint(2 * most + 1, (2, count, 1), generator=rng.torch())
        rows, cols = down + torch.arange(height), right + torch.arange(width)
        image = torch.arange(count)[:, None, None]
        return padded[image, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2).contiguous()
