"""What a perturbation is to hold against: several models, several images, or several transformations of one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from fedsim.minmax.apgda import Told, Trying
from fedsim.minmax.transforms import TRANSFORMS, Transform
from fedsim.parties.minmax import Response
from fedsim.plugins import Settings


class Over(Settings):
    """The domains of an attack."""

    kind: Literal["models", "inputs", "transformations"] = Field(
        "models",
        description="models: one image, every victim; inputs: one perturbation for a group of images; transformations: one "
        "image, whatever becomes of it; the latter two of one victim",
    )
    groups: tuple[PositiveInt, ...] = Field((5,), min_length=1, description="of inputs: images of a group, one by one")
    transforms: tuple[Transform, ...] = Field(
        ("identity", "flip", "upside_down", "brighter", "gamma", "rotate"),
        min_length=1,
        description="of transformations: which",
    )


class Domains(Protocol):
    """K domains of n perturbations of D numbers each.

    Attributes:
        names: of the domains.
        low, high: the box of each perturbation, (n, D).
    """

    names: Sequence[str]
    low: Tensor
    high: Tensor

    def images(self, trying: Trying) -> tuple[Tensor, Tensor]:
        """What victims are asked to judge: images (B, C, H, W) with their labels (B,)."""

    def apart(self, answers: Sequence[Tensor]) -> Tensor:
        """What victims said of them, (B, ...) each, by domain: (K, m, ...)."""

    def told(self, trying: Trying, answers: Sequence[Response]) -> Told:
        """Their margins and gradients by domain, after `images` of the same perturbations."""


class Models:
    """Every victim is a domain."""

    def __init__(self, x: Tensor, labels: Tensor, names: Sequence[str]) -> None:
        self._x, self._labels = x, labels
        self.names: Sequence[str] = names
        self.low, self.high = -x.flatten(1), 1 - x.flatten(1)

    def images(self, trying: Trying) -> tuple[Tensor, Tensor]:
        """The same for every victim."""
        return moved(self._x[trying.rows], trying.delta), self._labels[trying.rows]

    def apart(self, answers: Sequence[Tensor]) -> Tensor:
        """A victim's answers are a domain's."""
        return torch.stack(list(answers))

    def told(self, trying: Trying, answers: Sequence[Response]) -> Told:
        """See `Domains.told`."""
        return Told(self.apart([a.loss for a in answers]), self.apart([a.g.flatten(1) for a in answers]))


class Inputs:
    """Every image of a group is a domain; ``x`` (n, K, C, H, W), ``labels`` (n, K).

    The box holds for images, not for the perturbation they share: each is clipped by itself.
    """

    def __init__(self, x: Tensor, labels: Tensor) -> None:
        self._x, self._labels = x, labels
        self.names: Sequence[str] = [f"image {k + 1}" for k in range(x.shape[1])]
        self.low = -torch.ones_like(x[:, 0].flatten(1))
        self.high = -self.low

    def images(self, trying: Trying) -> tuple[Tensor, Tensor]:
        """All images of each group, one after the other."""
        x = self._x[trying.rows]
        every = trying.delta[:, None].expand(-1, x.shape[1], -1)
        return moved(x.flatten(0, 1), every.flatten(0, 1)), self._labels[trying.rows].flatten()

    def apart(self, answers: Sequence[Tensor]) -> Tensor:
        """By place in the group."""
        return answers[0].view(-1, len(self.names), *answers[0].shape[1:]).transpose(0, 1)

    def told(self, trying: Trying, answers: Sequence[Response]) -> Told:
        """A pixel that is clipped has no gradient."""
        x = self._x[trying.rows].flatten(2) + trying.delta[:, None]
        free = ((x >= 0) & (x <= 1)).transpose(0, 1)
        return Told(self.apart([answers[0].loss]), self.apart([answers[0].g.flatten(1)]) * free)


class Transformations:
    """Everything that may become of an image is a domain."""

    def __init__(self, x: Tensor, labels: Tensor, transforms: Sequence[Transform]) -> None:
        self._x, self._labels, self._transforms = x, labels, transforms
        self.names: Sequence[str] = transforms
        self.low, self.high = -x.flatten(1), 1 - x.flatten(1)

    def images(self, trying: Trying) -> tuple[Tensor, Tensor]:
        """All images under the first transformation, then under the second, and so on."""
        return self._every(trying, trying.delta).detach(), self._labels[trying.rows].repeat(len(self.names))

    def apart(self, answers: Sequence[Tensor]) -> Tensor:
        """By transformation."""
        return answers[0].view(len(self.names), -1, *answers[0].shape[1:])

    def told(self, trying: Trying, answers: Sequence[Response]) -> Told:
        """Gradients are pulled back through what became of the image."""
        every, found = self.apart([answers[0].g]), []
        for name, g in zip(self._transforms, every, strict=True):
            delta = trying.delta.detach().requires_grad_()
            through = TRANSFORMS[name](moved(self._x[trying.rows], delta))
            found.append(torch.autograd.grad(through, delta, g)[0])
        return Told(self.apart([answers[0].loss]), torch.stack(found))

    def _every(self, trying: Trying, delta: Tensor) -> Tensor:
        x = moved(self._x[trying.rows], delta)
        return torch.cat([TRANSFORMS[name](x) for name in self._transforms]).clamp(0, 1)


def moved(x: Tensor, delta: Tensor) -> Tensor:
    """Images (n, C, H, W) with their perturbations (n, D), in [0, 1] whatever was rounded."""
    return (x + delta.view_as(x)).clamp(0, 1)
