"""One perturbation against several domains at once: an attacker asks, victims answer with losses and gradients.

The attacker has images that no victim was trained on, and white-box access to every victim: an answer holds the gradient of the
loss with respect to the input. Whether an image is taken for another class is for the victim to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsim.message import Message


@dataclass(frozen=True, eq=False)
class Query(Message):
    """Images to judge, (B, C, H, W) in [0, 1], and their true classes, (B,); no images: that was all.

    ``gradient`` asks for gradients as well.
    """

    x: Tensor
    labels: Tensor
    gradient: bool


@dataclass(frozen=True, eq=False)
class Response(Message):
    """What a victim makes of them.

    Attributes:
        loss: the margin, logit of the true class less the largest other, (B,).
        wrong: whether another class is predicted, (B,) bool.
        g: the gradient of each loss with respect to its image, (B, C, H, W); (0,) if it was not asked for.
    """

    loss: Tensor
    wrong: Tensor
    g: Tensor


UP = ("Response",)
DOWN = ("Query",)
"""The kinds of message between a victim and the attacker, who is the hub."""
