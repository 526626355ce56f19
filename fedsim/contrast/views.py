"""What a party makes of its images: augmented ones, and those with their low frequencies taken out."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedsim.plugins import Settings
from fedsim.seeding import Rng


class Augmentation(Settings):
    """Random maps of the plane and of the values; every row draws its own."""

    rotate: float = Field(15.0, ge=0, le=180, description="most degrees an image turns")
    shift: float = Field(0.1, ge=0, lt=1, description="most it moves, as a share of its side")
    zoom: float = Field(0.1, ge=0, lt=1, description="most it grows or shrinks, as a share")
    crop: float = Field(
        1.0, gt=0, le=1, description="smallest share of its area that a crop keeps, resized; 1: no crop"
    )
    flip: bool = Field(False, description="left and right change places in half of the rows")
    contrast: float = Field(
        0.3, ge=0, lt=1, description="most by which values are stretched about their mean, as a share"
    )
    brightness: float = Field(0.0, ge=0, lt=1, description="most that is added to all values")
    grey: float = Field(0.0, ge=0, le=1, description="share of rows whose channels become their mean")

    def apply(self, images: Tensor, rng: Rng) -> Tensor:
        """Images (n, C, H, W) in [0, 1], varied, in [0, 1]; equal draws for equal ``rng`` and n, whatever their size."""
        warped = functional.grid_sample(
            images, self._grid(images, rng), mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return self._coloured(warped, rng).clamp(0, 1)

    def _grid(self, images: Tensor, rng: Rng) -> Tensor:
        turn, grow, down, right, side, y, x = _even(rng.child("plane"), 7, len(images))
        angle = turn * self.rotate * torch.pi / 180
        scale = (1 + grow * self.zoom) * (1 - (side + 1) / 2 * (1 - self.crop)).sqrt()
        mirror = torch.ones(len(images))
        if self.flip:
            mirror[torch.rand(len(images), generator=rng.child("flip").torch()) < 0.5] = -1
        room = (1 - scale).clamp_min(0)  # where a crop may lie
        across, up = 2 * self.shift * right + room * x, 2 * self.shift * down + room * y
        shape = images.shape[2] / images.shape[3]  # pixels are squares, also where slices are not
        top = torch.stack([mirror * scale * angle.cos(), -shape * scale * angle.sin(), across], dim=1)
        bottom = torch.stack([mirror * scale * angle.sin() / shape, scale * angle.cos(), up], dim=1)
        return functional.affine_grid(torch.stack([top, bottom], dim=1), list(images.shape), align_corners=False)

    def _coloured(self, images: Tensor, rng: Rng) -> Tensor:
        stretch, add = (t.view(-1, 1, 1, 1) for t in _even(rng.child("colour"), 2, len(images)))
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        images = middle + (images - middle) * (1 + stretch * self.contrast) + add * self.brightness
        if self.grey:
            chosen = torch.rand(len(images), generator=rng.child("grey").torch()) < self.grey
            images = torch.where(chosen.view(-1, 1, 1, 1), images.mean(dim=1, keepdim=True), images)
        return images


def high_pass(images: Tensor, radius: float) -> Tensor:
    """Images (n, C, H, W) without the frequencies nearer than ``radius`` to the origin of the shifted spectrum; not clamped.

    The mask is that of the authors' code: per channel, distances in steps of the discrete spectrum.
    """
    height, width = images.shape[2:]
    y, x = (torch.fft.fftshift(torch.fft.fftfreq(size) * size) for size in (height, width))
    kept = (y[:, None].square() + x.square()).sqrt() >= radius
    spectrum = torch.fft.fftshift(torch.fft.fft2(images), dim=(2, 3))
    found: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum * kept, dim=(2, 3))).real
    return found.to(images.dtype)


def _even(rng: Rng, draws: int, rows: int) -> Tensor:
    """Even draws from -1 to 1, (``draws``, ``rows``)."""
    return 2 * torch.rand((draws, rows), generator=rng.torch()) - 1
