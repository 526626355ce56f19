"""Projected gradient ascent in one loss: the attack that models are trained against, and the one other libraries have.

Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedsim.minmax.balls import Ball


def climb(x: Tensor, uphill: Callable[[Tensor], Tensor], ball: Ball, steps: int) -> Tensor:
    """Inputs near ``x`` (n, ...) in [0, 1] where the loss is larger; starts at ``x``.

    Args:
        x: in [0, 1].
        uphill: the gradient of the loss with respect to inputs of the shape of ``x``, of the same shape.
        ball: where to look, and how far a step goes.
        steps: how many.
    """
    flat = x.flatten(1)
    delta = torch.zeros_like(flat)
    for _ in range(steps):
        g = uphill((flat + delta).view_as(x)).flatten(1)
        delta = ball.project(delta + ball.move(g), -flat, 1 - flat)
    return (flat + delta).view_as(x)
