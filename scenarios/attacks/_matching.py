"""Gradient matching: rows whose gradient is the one that was sent.

With the bottom disclosed and ``g = dL/dz`` (B, E) known, a candidate batch x (B, ...) has the parameter gradient
``d/dW sum_i <g_i, bottom_W(x_i)>``: no label and no other party is needed. As g_i belongs to row i, so does x_i: the
order of the rows, which gradient inversion of a whole model leaves open, is identified here.

Distances between the true gradients t_l and those of the candidates c_l, l over the parameters:

* ``l2``: ``sum |t_l - c_l|^2 / sum |t_l|^2``; Zhu et al., Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935
* ``cosine``: ``1 - <t, c> / (|t| |c|)``, all parameters as one vector; Geiping et al., Inverting Gradients, NeurIPS 2020,
  arXiv 2003.14053, section 4
* ``kernel``: ``mean_l 1 - exp(-|t_l - c_l|^2 / (bandwidth |t_l|^2))``; after Wang et al., SAPAG, arXiv 2009.06228
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedsim.seeding import Rng
from fedsim.threat import Tell

Named = Mapping[str, Tensor]
Objective = Callable[[Tensor, Tensor, "dict[str, Tensor]", Tensor], tuple[tuple[Tensor, ...], Tensor]]
BETAS = (0.9, 0.999)
"""Of Adam."""
TOGETHER = 96
"""Rows that are looked for at once: bounds the memory."""


@dataclass(frozen=True)
class Matching:
    """How rows are looked for: projected Adam, from ``restarts`` random starts of which the best end is kept.

    Attributes:
        distance: see the module.
        iterations: of each descent; the budget, so that a result never depends on a clock.
        lr: the first step size.
        decay: ``cosine``: to 0; ``steps``: to a tenth at 3/8, 5/8 and 7/8 of the iterations (Geiping et al.).
        signed: descend along the sign of the gradient only (Geiping et al.).
        variation: weight of the total variation, images only.
        bandwidth: of the kernel.
        embeddings: weight of the distance of the embeddings, relative and squared; 0: they are not used.
        free: g is not known, only its sum over the batch; it is looked for along with the rows.
    """

    distance: Literal["l2", "cosine", "kernel"]
    iterations: int
    restarts: int
    lr: float
    decay: Literal["cosine", "steps"] = "cosine"
    signed: bool = False
    variation: float = 0.0
    bandwidth: float = 1.0
    embeddings: float = 0.0
    free: bool = False


@dataclass(frozen=True)
class Batches:
    """What was seen of G batches of B rows, all on one model.

    Attributes:
        g: gradients of the embeddings, (G, B, E); where they are looked for, their mean over the batch.
        z: embeddings, (G, B, E).
        grads: gradients of the parameters, by name, (G, ...).
    """

    g: Tensor
    z: Tensor
    grads: Named

    def each(self, of: Callable[[Tensor], Tensor]) -> Batches:
        """The same function of every tensor."""
        return Batches(of(self.g), of(self.z), {name: of(t) for name, t in self.grads.items()})


def match(
    bottom: nn.Sequential, seen: Batches, shape: tuple[int, ...], settings: Matching, rng: Rng, tell: Tell
) -> tuple[Tensor, Tensor]:
    """Rows (G, B, *shape), images in [0, 1], and the residual of each batch, (G,): its distance in the end."""
    size = max(1, TOGETHER // (seen.g.shape[1] * settings.restarts))
    found = []
    for first in range(0, len(seen.g), size):
        part = seen.each(lambda t, a=first: t[a : a + size].repeat_interleave(settings.restarts, dim=0))  # type: ignore[misc]
        done = first / len(seen.g), min(1.0, (first + size) / len(seen.g))
        rows, residual = _descend(bottom, part, shape, settings, rng.child("start", first), tell, done)
        residual, best = residual.view(-1, settings.restarts).min(dim=1)
        rows = rows.view(-1, settings.restarts, *rows.shape[1:])
        found.append((rows[torch.arange(len(best)), best], residual))
    return torch.cat([rows for rows, _ in found]), torch.cat([residual for _, residual in found])


def _descend(
    bottom: nn.Sequential,
    seen: Batches,
    shape: tuple[int, ...],
    settings: Matching,
    rng: Rng,
    tell: Tell,
    span: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Adam on every batch at once, each for itself; tells its progress between the two ends of ``span``."""
    image, slopes = len(shape) == 3, _slopes(bottom, settings, len(shape) == 3)
    g, target = seen.g, dict(seen.grads)
    at = [_start(len(g), g.shape[1], shape, rng)]
    scale = g.norm(dim=(1, 2), keepdim=True) if settings.free else torch.zeros(())
    if settings.free:
        at.append(torch.randn(g.shape, generator=rng.child("g").torch()))
    m, s = [torch.zeros_like(t) for t in at], [torch.zeros_like(t) for t in at]
    for i in range(settings.iterations):
        guess = _with_mean(g, at[1], scale) if settings.free else g
        down, _ = slopes(at[0], guess, target, seen.z)
        step = settings.lr * _pace(i / settings.iterations, settings.decay)
        for nth, slope in enumerate(down):
            at[nth] = at[nth] - step * _adam(slope if nth == 0 else slope * scale, m[nth], s[nth], i, settings.signed)
        if image:
            at[0].clamp_(0, 1)
        if i % 50 == 0:
            tell(span[0] + (span[1] - span[0]) * i / settings.iterations)
    guess = _with_mean(g, at[1], scale) if settings.free else g
    return at[0], slopes(at[0], guess, target, seen.z)[1].nan_to_num(math.inf)


def _slopes(bottom: nn.Sequential, settings: Matching, image: bool) -> Objective:
    """By batch: the gradients of the objective with respect to rows, and to g if it is free, and the distance."""
    parameters = {name: p.detach() for name, p in bottom.named_parameters()}

    def answer(p: Named, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        z = functional_call(bottom, dict(p), (x,))
        return (z * g).sum(), z

    def objective(x: Tensor, g: Tensor, target: Named, z: Tensor) -> tuple[Tensor, Tensor]:
        sent, embedding = grad(answer, has_aux=True)(parameters, x, g)
        off = distance(target, sent, settings)
        if settings.embeddings:
            off = off + settings.embeddings * (embedding - z).pow(2).sum() / z.pow(2).sum().clamp_min(1e-30)
        smooth = settings.variation * _total_variation(x) if image and settings.variation else 0.0
        return off + smooth, off.detach()

    return vmap(grad(objective, argnums=(0, 1) if settings.free else (0,), has_aux=True))


def distance(target: Named, sent: Named, settings: Matching) -> Tensor:
    """How far the gradients of the candidates are from those that were seen, a scalar."""
    off = [(target[name] - sent[name]).pow(2).sum() for name in target]
    size = [target[name].pow(2).sum().clamp_min(1e-30) for name in target]
    if settings.distance == "kernel":
        each = [1 - torch.exp(-a / (settings.bandwidth * b)) for a, b in zip(off, size, strict=True)]
        return torch.stack(each).mean()
    if settings.distance == "l2":
        return torch.stack(off).sum() / torch.stack(size).sum()
    along = torch.stack([(target[name] * sent[name]).sum() for name in target]).sum()
    length = torch.stack([sent[name].pow(2).sum() for name in target]).sum()
    return 1 - along / (torch.stack(size).sum().sqrt() * length.clamp_min(1e-30).sqrt())


def _start(batches: int, size: int, shape: tuple[int, ...], rng: Rng) -> Tensor:
    """Noise; that of images is of random brightness."""
    generator = rng.torch()
    if len(shape) < 3:
        return torch.randn((batches, size, *shape), generator=generator)
    brightness = torch.rand((batches, size, 1, 1, 1), generator=generator)
    return brightness * torch.rand((batches, size, *shape), generator=generator)


def _with_mean(mean: Tensor, free: Tensor, scale: Tensor) -> Tensor:
    """A gradient for each row, (G, B, E), whose mean over the batch is known; of one row it is the mean itself."""
    return mean + scale * (free - free.mean(dim=1, keepdim=True))


def _adam(slope: Tensor, m: Tensor, s: Tensor, i: int, signed: bool) -> Tensor:
    """One direction of Adam; ``m`` and ``s`` are updated."""
    slope = slope.nan_to_num(0.0)
    slope = slope.sign() if signed else slope
    b1, b2 = BETAS
    m.mul_(b1).add_(slope, alpha=1 - b1)
    s.mul_(b2).addcmul_(slope, slope, value=1 - b2)
    return (m / (1 - b1 ** (i + 1))) / ((s / (1 - b2 ** (i + 1))).sqrt() + 1e-12)


def _pace(done: float, decay: str) -> float:
    if decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 0.1 ** sum(done >= at for at in (3 / 8, 5 / 8, 7 / 8))


def _total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down and across."""
    return (x[..., 1:] - x[..., :-1]).abs().mean() + (x[..., 1:, :] - x[..., :-1, :]).abs().mean()
