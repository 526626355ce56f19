"""What may happen to an image before a model sees it; each can be differentiated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Transform = Literal["identity", "flip", "upside_down", "brighter", "gamma", "crop", "rotate"]


def _crop(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    rows, columns = round(height / 8), round(width / 8)
    inner = x[:, :, rows : height - rows, columns : width - columns]
    return functional.interpolate(inner, (height, width), mode="bilinear", align_corners=False)


def _rotate(x: Tensor) -> Tensor:
    sine, cosine = math.sin(math.pi / 3), math.cos(math.pi / 3)
    turn = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]], dtype=x.dtype).expand(len(x), 2, 3)
    grid = functional.affine_grid(turn, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


TRANSFORMS: Mapping[Transform, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "flip": lambda x: x.flip(3),
    "upside_down": lambda x: x.flip(2),
    "brighter": lambda x: (x + 0.1).clamp(0, 1),
    "gamma": lambda x: (x + 1e-6) ** 1.3,  # the power has no gradient at 0
    "crop": _crop,
    "rotate": _rotate,
}
"""Images (n, C, H, W) in [0, 1] to images of that shape: the six of the paper and the image as it is. ``crop`` takes an
eighth off each side and enlarges what is left; ``rotate`` turns by 60 degrees."""
assert tuple(TRANSFORMS) == get_args(Transform)
