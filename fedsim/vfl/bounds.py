"""How far the output of a network can move when its weights move: sound bounds, entrywise and by norms.

Every weight and bias of a network may change by at most ``eps``. Then ``|z'_k - z_k| <= e_k`` entrywise, with e_0 = 0 and, for
a layer with weights, ``e_k = |W_k| e_{k-1} + eps (|z_{k-1}|_1 + |e_{k-1}|_1) + eps`` (the last term for a bias); ReLU and max
pooling are monotone and convex, so ``e_k = layer(z + e) - layer(z)``. A convolution is its matrix: the one-norms run over the
receptive field. The form by norms keeps one number a row:
``e_k = |W_k|_inf e_{k-1} + eps (|z_{k-1}|_1 + n_{k-1} e_{k-1}) + eps``.

Ingredients as in Tsai et al., Formalizing Generalization and Robustness to Weight Perturbations, NeurIPS 2021 (layer by layer,
norms of the weights, one-norms of the activations); the statements and proofs here are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsim.errors import ConfigError

Form = Literal["entrywise", "norms"]
Radius = float | Tensor
"""A bound on the change of each weight: one for all rows, or one a row, (B,)."""

ROUNDING = 1e-5
"""What rounding in float32 may do to a margin, relative to the largest logit of its row: a certificate leaves that room."""


BOUNDED = (nn.Linear, nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Dropout)
"""The layers that a bound is known of."""


def spread(network: nn.Module, x: Tensor, eps: Radius, e: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The output z (B, ...) of a network, and how far each number of it can move, e >= 0 of the same shape.

    Args:
        network: linear layers, convolutions, ReLU, max pooling, flattening; dropout counts as none.
        x: the rows, (B, ...).
        eps: how far each weight may move; differentiable where z is.
        e: how far the rows themselves can move, of the shape of ``x``; default: not at all.

    Raises:
        ConfigError: a layer of another kind.
    """
    e = torch.zeros_like(x) if e is None else e
    for layer in layers(network):
        x, e = _spread(layer, x, eps, e)
    return x, e


def spread_by_norms(network: nn.Module, x: Tensor, eps: Radius, e: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The same with one number a row, e (B,), for all of its output."""
    e = x.new_zeros(len(x)) if e is None else e
    for layer in layers(network):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            rows = layer.weight.abs().flatten(1)
            bias = eps if layer.bias is not None else 0.0
            e = rows.sum(1).max() * e + eps * (_largest_one_norm(layer, x) + rows.shape[1] * e) + bias
        elif not isinstance(layer, nn.ReLU | nn.MaxPool2d | nn.Flatten | nn.Dropout):
            raise _unknown(layer)
        x = x if isinstance(layer, nn.Dropout) else layer(x)
    return x, e


def margins(
    top: nn.Module, z: Tensor, chosen: Tensor, eps: Radius, e: Tensor, form: Form = "entrywise"
) -> tuple[Tensor, Tensor]:
    """Logits (B, C), and how far the margin ``f_chosen - f_j`` can fall, (B, C) >= 0; 0 for j = chosen.

    Args:
        top: as in `spread`, its last layer linear.
        z: the joined embeddings, (B, E).
        chosen: a class for each row, (B,) int64.
        eps: how far each weight of the top may move.
        e: how far the embeddings can move, (B, E), or by norms (B,).
        form: entrywise, or by norms.

    Raises:
        ConfigError: the top does not end in a linear layer.
    """
    *before, last = layers(top)
    if not isinstance(last, nn.Linear):
        raise ConfigError("the bound takes a top that ends in a linear layer, without an activation behind it")
    z, e = (spread if form == "entrywise" else spread_by_norms)(nn.Sequential(*before), z, eps, e)
    gap = (last.weight[:, None] - last.weight[None]).abs()  # (C, C, H)
    one_norm = z.abs().sum(1)
    if form == "entrywise":
        fall = (gap[chosen] @ e[:, :, None]).squeeze(2)
        own = one_norm + e.sum(1)
    else:
        fall = gap.sum(2)[chosen] * e[:, None]
        own = one_norm + z.shape[1] * e
    own = 2 * eps * (own + (1 if last.bias is not None else 0))
    others = functional.one_hot(chosen, len(gap)) == 0
    return last(z), (fall + own[:, None]) * others


def check_bounded(network: nn.Module) -> None:
    """Refuse a network that has a layer without a known bound.

    Raises:
        ConfigError: names the kind of layer.
    """
    for layer in layers(network):
        if not isinstance(layer, BOUNDED):
            raise _unknown(layer)


def holds(logits: Tensor, fall: Tensor, chosen: Tensor) -> Tensor:
    """Whether the chosen class keeps the largest logit whatever the weights do, (B,) bool; with room for rounding."""
    lead = logits.gather(1, chosen[:, None]) - logits - fall
    room = ROUNDING * logits.abs().amax(dim=1, keepdim=True)
    others = functional.one_hot(chosen, logits.shape[1]) == 0
    return (torch.where(others, lead - room, torch.inf) > 0).all(dim=1)


def layers(network: nn.Module) -> list[nn.Module]:
    """The layers of a network, in order."""
    return [inner for part in network for inner in layers(part)] if isinstance(network, nn.Sequential) else [network]


class Bisection:
    """The largest radius of each row at which something holds, (n,), on a scale of orders of magnitude.

    >>> search = Bisection(2, low=1e-6, high=1.0, rounds=30)
    >>> for _ in range(search.rounds):
    ...     search.told(search.asked() < torch.tensor([0.25, 2.0]))
    >>> [round(value, 4) for value in search.found.tolist()]
    [0.25, 1.0]
    """

    def __init__(self, rows: int, low: float, high: float, rounds: int) -> None:
        self.rounds = rounds
        self.found = torch.zeros(rows, dtype=torch.float64)
        self._low = torch.full((rows,), low, dtype=torch.float64).log()
        self._high = torch.full((rows,), high, dtype=torch.float64).log()
        self._begun = False

    def asked(self) -> Tensor:
        """The radii to try next, (n,) float64; first the lowest."""
        return ((self._low + self._high) / 2).exp() if self._begun else self._low.exp()

    def told(self, held: Tensor) -> None:
        """Whether it held at these, (n,) bool."""
        tried = self.asked()
        self.found = torch.where(held, torch.maximum(self.found, tried), self.found)
        if not self._begun:
            self._begun = True
            self._high = torch.where(held, self._high, self._low)
            return
        self._low = torch.where(held, tried.log(), self._low)
        self._high = torch.where(held, self._high, tried.log())


def _spread(layer: nn.Module, x: Tensor, eps: Radius, e: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(layer, nn.Linear):
        more = (x.abs() + e).sum(1) + (1 if layer.bias is not None else 0)
        return layer(x), functional.linear(e, layer.weight.abs()) + (eps * more)[:, None]
    if isinstance(layer, nn.Conv2d):
        more = _field_sums(layer, x.abs() + e) + (1 if layer.bias is not None else 0)
        return layer(x), _conv(layer, e, layer.weight.abs()) + _over(eps, more) * more
    if isinstance(layer, nn.ReLU | nn.MaxPool2d):
        z = layer(x)
        return z, layer(x + e) - z
    if isinstance(layer, nn.Flatten):
        return layer(x), layer(e)
    if isinstance(layer, nn.Dropout):
        return x, e
    raise _unknown(layer)


def _unknown(layer: nn.Module) -> ConfigError:
    return ConfigError(
        f"no bound is known for a layer of kind {type(layer).__name__}; allowed: "
        f"{', '.join(kind.__name__ for kind in BOUNDED)}"
    )


def _over(eps: Radius, like: Tensor) -> Radius:
    """A radius a row, shaped to go over every number of the row."""
    return eps.view(-1, *[1] * (like.ndim - 1)) if isinstance(eps, Tensor) and eps.ndim else eps


def _conv(layer: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    if layer.padding_mode != "zeros":
        raise ConfigError(f"no bound is known for a convolution with padding of kind {layer.padding_mode}")
    found: Tensor = functional.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return found


def _field_sums(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Sums over each output's receptive field, of its shape (B, 1, H, W) or (B, C, H, W) where channels are grouped."""
    channels = 1 if layer.groups == 1 else layer.out_channels
    return _conv(layer, x, torch.ones_like(layer.weight[:channels]))


def _largest_one_norm(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """The largest one-norm of what an output of the layer reads, (B,)."""
    return x.abs().sum(1) if isinstance(layer, nn.Linear) else _field_sums(layer, x.abs()).flatten(1).amax(1)


Spread = Callable[[nn.Module, Tensor, Radius, Tensor | None], tuple[Tensor, Tensor]]
FORMS: dict[Form, Spread] = {"entrywise": spread, "norms": spread_by_norms}
"""By form, the bound over a network that has no classes."""
