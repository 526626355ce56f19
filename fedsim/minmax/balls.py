"""Norm balls inside a box: exact projections on them, and the steps by which an attack moves in them."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from fedsim.plugins import Settings

Norm = Literal["l0", "l1", "l2", "linf"]


class Ball(Settings):
    """How far inputs may be moved, and how far one step goes."""

    norm: Norm = Field(description="l0 (number of inputs) | l1 | l2 | linf")
    eps: float = Field(gt=0, description="radius, in units of the input; of l0 a count")
    step: float | None = Field(
        None, gt=0, description="length of a step: of linf in each input, else in l2; default: by norm"
    )

    @model_validator(mode="after")
    def _counts(self) -> Ball:
        if self.norm == "l0" and self.eps != int(self.eps):
            raise ValueError(f"eps: of l0 expected a whole number of inputs, found {self.eps}")
        return self

    @property
    def name(self) -> str:
        """Norm and radius: ``linf 0.2``."""
        return f"{self.norm} {self.eps:g}"

    @property
    def stride(self) -> float:
        """The step, or that of the norm: an eighth of the radius; of l1, whose ball is pointed, a twentieth; of l0, 1."""
        defaults = {"linf": self.eps / 8, "l2": self.eps / 8, "l1": self.eps / 20, "l0": 1.0}
        return self.step or defaults[self.norm]

    def project(self, v: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """See `project`."""
        return project(v, low, high, self.norm, self.eps)

    def move(self, g: Tensor) -> Tensor:
        """The step along gradients (n, D): their signs for linf, else their directions."""
        return self.stride * (g.sign() if self.norm == "linf" else functional.normalize(g, dim=1))


def project(v: Tensor, low: Tensor, high: Tensor, norm: Norm, eps: float) -> Tensor:
    """The nearest point to each row of ``v`` among those in the ball and in the box, in closed form after one sort.

    Args:
        v: (n, D).
        low: lower ends of the box, (n, D), at most 0.
        high: upper ends, (n, D), at least 0.
        norm: of the ball around 0.
        eps: its radius.
    """
    if norm == "linf":
        return v.clamp(low.clamp_min(-eps), high.clamp_max(eps))
    if norm == "l0":
        return _l0(v, low, high, int(eps))
    inside = v.clamp(low, high)
    order = 1 if norm == "l1" else 2
    far = torch.linalg.vector_norm(inside.double(), order, dim=1) > eps
    if far.any():
        size = v[far].double().abs()
        bound = torch.where(v[far] > 0, high[far], -low[far]).double()
        shrunk = _l1(size, bound, eps) if norm == "l1" else _l2(size, bound, eps)
        inside[far] = (shrunk * v[far].sign()).to(v.dtype)
    return inside


def _l2(size: Tensor, bound: Tensor, eps: float) -> Tensor:
    """``min(s |v|, bound)`` with the s in (0, 1) that gives it length ``eps``.

    In the order of the s at which each entry reaches its bound, the squared length is known at every such s.
    """
    reached = torch.where(size > 0, bound / size, torch.inf)
    reached, order = reached.sort(dim=1)
    full = (bound.gather(1, order) ** 2).cumsum(dim=1).roll(1, dims=1)
    full[:, 0] = 0
    free = (size.gather(1, order) ** 2).flip(1).cumsum(dim=1).flip(1)
    squares = full + torch.where(free > 0, reached**2 * free, 0.0)
    nth = (squares < eps**2).sum(dim=1, keepdim=True).clamp_max(size.shape[1] - 1)
    left = (eps**2 - full.gather(1, nth)).clamp_min(0)
    scale = (left / free.gather(1, nth).clamp_min(1e-300)).sqrt().clamp_max(1)  # 1: on the ball but for rounding
    return torch.minimum(scale * size, bound)


def _l1(size: Tensor, bound: Tensor, eps: float) -> Tensor:
    """``min(max(|v| - t, 0), bound)`` with the t that gives it the sum ``eps``.

    As t grows an entry begins to shrink at |v| - bound and is gone at |v|; between these points the sum falls evenly.
    """
    points, order = torch.cat([(size - bound).clamp_min(0), size], dim=1).sort(dim=1)
    change = torch.cat([torch.ones_like(size), -torch.ones_like(size)], dim=1)
    shrinking = change.gather(1, order).cumsum(dim=1)
    falls = (shrinking[:, :-1] * points.diff(dim=1)).cumsum(dim=1)
    total = torch.minimum(size, bound).sum(dim=1, keepdim=True)
    sums = torch.cat([total, total - falls], dim=1)
    nth = ((sums > eps).sum(dim=1, keepdim=True) - 1).clamp_min(0)  # of a row on the ball rounding may find none
    past = (sums.gather(1, nth) - eps).clamp_min(0) / shrinking.gather(1, nth).clamp_min(1)
    return torch.minimum((size - points.gather(1, nth) - past).clamp_min(0), bound)


def _l0(v: Tensor, low: Tensor, high: Tensor, count: int) -> Tensor:
    """Keep the entries that are worth most: by how much less the square of the distance is with them than without."""
    inside = v.clamp(low, high)
    if count >= v.shape[1]:
        return inside
    gain = v.double() ** 2 - (v.double() - inside.double()) ** 2
    kept = gain.topk(count, dim=1).indices
    return torch.zeros_like(v).scatter(1, kept, inside.gather(1, kept))
