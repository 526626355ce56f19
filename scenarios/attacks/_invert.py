"""Step III of CAFE: rows whose representation is the one that was recovered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsim.scenarios.attacks._disclosed import ends_in_relu
from fedsim.seeding import Rng
from fedsim.threat import Tell


@dataclass(frozen=True)
class Inversion:
    """How rows are looked for.

    Attributes:
        iterations: of projected Adam in each descent; the step size falls from ``lr`` to 0 along a cosine.
        start: every pixel of the first start; tables start from 0.
        gamma: weight of the distance of the representations.
        variation: images: weight of the total variation at the first iteration; it falls to 0 linearly.
        xi: the total variation counts only while the mean of the rows' own is above.
        done: a row whose residual is below is finished and leaves the descent.
        stalled: a row whose residual is above, in the end, is started again ``restarts`` times, in at most ``rounds`` rounds.
        hopeless: with a median residual above, the representations are wrong and restarts would not help.
    """

    iterations: int = 150
    lr: float = 0.5
    betas: tuple[float, float] = (0.9, 0.95)
    start: float = 0.3
    gamma: float = 1.0
    variation: float = 1e-5
    xi: float = 0.0
    done: float = 1e-9
    check: int = 25
    stalled: float = 1e-7
    restarts: int = 4
    rounds: int = 2
    hopeless: float = 1e-2
    matching: Literal["l2", "cosine"] = "l2"


def invert(
    represent: nn.Sequential, h: Tensor, shape: tuple[int, ...], settings: Inversion, rng: Rng, tell: Tell
) -> tuple[Tensor, Tensor]:
    """Rows (n, *shape), images in [0, 1], whose representation is ``h`` (n, d1), and how far off each is, (n,), relative.

    ``represent`` goes from rows (n, ...) to representations (n, d1).
    Descends on ``|h(x) - h|^2 / |h|^2`` (or ``2 - 2 cos``) plus total variation, all rows at once but each for itself.
    Stalls depend on the weights: at some rows ReLU and pooling leave a local minimum, which other starts avoid.
    """
    total = 1 + settings.rounds
    h = h.clamp_min(0) if ends_in_relu(represent) else h
    first = torch.full((len(h), *shape), settings.start if len(shape) == 3 else 0.0)
    rows, residual = _descend(represent, h, first, settings, partial(_tell_from, tell, 0, total))
    for nth in range(1, total):
        stalled = (residual > settings.stalled).nonzero().flatten()
        if not settings.restarts or not len(stalled) or float(residual.median()) > settings.hopeless:
            break
        copies = stalled.repeat_interleave(settings.restarts)
        generator = rng.child("restart", nth).torch()
        starts = noise(len(copies), shape, generator)
        found, off = _descend(represent, h[copies], starts, settings, partial(_tell_from, tell, nth, total))
        off, best = off.view(-1, settings.restarts).min(dim=1)
        found = found.view(-1, settings.restarts, *shape)[torch.arange(len(stalled)), best]
        better = off < residual[stalled]
        rows[stalled[better]], residual[stalled[better]] = found[better], off[better]
    return rows, residual


def _descend(represent: nn.Sequential, h: Tensor, x: Tensor, settings: Inversion, tell: Tell) -> tuple[Tensor, Tensor]:
    """Projected Adam from ``x``; finished rows leave, so that the others go faster."""
    image = x.ndim == 4
    best, residual, left = x.clone(), torch.full((len(x),), math.inf), torch.arange(len(x))
    m, s, (b1, b2) = torch.zeros_like(x), torch.zeros_like(x), settings.betas
    for i in range(settings.iterations):
        x.requires_grad_(True)
        off = distance(represent(x), h[left], settings.matching)
        total = settings.gamma * off.sum()
        if image and bool((variation := total_variation(x)) > settings.xi * len(x)):
            total = total + settings.variation * (1 - i / settings.iterations) * variation
        (g,) = torch.autograd.grad(total, x)
        x, off = x.detach(), off.detach()
        if i and i % settings.check == 0:
            tell(i / settings.iterations)
            best[left], residual[left] = x, off
            keep = off > settings.done
            if not keep.any():
                return best, residual
            left, x, m, s, g = left[keep], x[keep], m[keep], s[keep], g[keep]
        m.mul_(b1).add_(g, alpha=1 - b1)
        s.mul_(b2).addcmul_(g, g, value=1 - b2)
        step = settings.lr * 0.5 * (1 + math.cos(math.pi * i / settings.iterations))
        x = x - step * (m / (1 - b1 ** (i + 1))) / ((s / (1 - b2 ** (i + 1))).sqrt() + 1e-12)
        if image:
            x.clamp_(0, 1)
    with torch.no_grad():
        best[left], residual[left] = x, distance(represent(x), h[left], settings.matching)
    return best, residual


def noise(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Rows to start from, (count, *shape): noise; that of images is of random brightness, in [0, 1]."""
    if len(shape) < 3:
        return torch.randn((count, *shape), generator=generator)
    brightness = torch.rand((count, 1, 1, 1), generator=generator)
    return brightness * torch.rand((count, *shape), generator=generator)


def _tell_from(tell: Tell, nth: int, total: int, done: float) -> None:
    tell((nth + done) / total)


def distance(one: Tensor, other: Tensor, matching: str) -> Tensor:
    """By row, the squared distance relative to ``other``; or, blind to scale, that of the unit vectors."""
    if matching == "cosine":
        return 2 - 2 * functional.cosine_similarity(one, other, dim=1, eps=1e-12)
    return (one - other).pow(2).sum(dim=1) / other.pow(2).sum(dim=1).clamp_min(1e-12)


def total_variation(x: Tensor) -> Tensor:
    """The sum of absolute differences of neighbours, down and across, over all images."""
    return (x[..., 1:] - x[..., :-1]).abs().sum() + (x[..., 1:, :] - x[..., :-1, :]).abs().sum()
