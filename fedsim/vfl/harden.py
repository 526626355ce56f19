"""Training against perturbed weights: the margin bound as a loss, a norm of the weights, adversarial weights, noise.

Each seat does its own part. Norm and noise need nobody else. Adversarial weights need a second exchange a batch, a rehearsal.
The margin bound is one function of all weights: a party sends beside its embedding z how far it can move, e; the hub carries
both through the top, and what comes back holds the gradients of both. So the split computes the loss of the joint network
exactly, for twice the bytes; the hub learns e, which depends on a row through one-norms of its activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedsim.plugins import Settings
from fedsim.seeding import Rng
from fedsim.vfl.bounds import margins, spread
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Turn


class Hardening(Settings):
    """What is added to the cross-entropy, and to the weights while they are trained; nothing by default."""

    robust: float = Field(
        0.0, ge=0, description="lambda: weight of the margin that weights within eps can turn negative"
    )
    eps: float = Field(0.01, gt=0, description="how far each weight may move in that term")
    warmup: int = Field(0, ge=0, description="training steps in which lambda rises from 0")
    norm: float = Field(0.0, ge=0, description="mu: weight of the largest row and column sums of every |W|")
    adversarial: float = Field(
        0.0, ge=0, description="AWP: each gradient is taken where weights have moved so far against it"
    )
    noise: float = Field(0.0, ge=0, description="standard deviation of Gaussian noise on the weights in each step")

    def harden(self, network: Network, rng: Rng) -> None:
        """Put around a network what is done at each seat; ``rng`` is the seat's own."""
        if self.norm:
            network.strikes.append(NormTerm(self.norm, network))
        if self.noise:
            network.strikes.append(Noise(self.noise, network, rng))
        if self.adversarial:
            network.strikes.append(Adversary(self.adversarial, network))

    def outward(self, bottom: nn.Module, rows: Tensor) -> Tensor:
        """What a party sends in a training step with the robust term: embedding and its reach, (B, 2E)."""
        return torch.cat(spread(bottom, rows, self.eps), dim=1)

    def judged(self, top: nn.Module, joined: Tensor, widths: Sequence[int], target: Tensor) -> Tensor:
        """Logits and falls of the margins, (B, 2C), from what parties sent: ``widths[i]`` numbers of party i, z then e."""
        pairs = [part.chunk(2, dim=1) for part in torch.split(joined, list(widths), dim=1)]
        z, e = (torch.cat([pair[i] for pair in pairs], dim=1) for i in (0, 1))
        return torch.cat(margins(top, z, target, self.eps, e), dim=1)

    def loss(self, judged: Tensor, target: Tensor, index: int, smoothing: float) -> Tensor:
        """Cross-entropy plus lambda times the mean of ``max(0, max_j f_j - f_y + fall_j)``, nats."""
        logits, fall = judged.chunk(2, dim=1)
        lead = logits.gather(1, target[:, None]) - logits - fall
        others = functional.one_hot(target, logits.shape[1]) == 0
        worst = torch.where(others, lead, torch.inf).amin(dim=1)
        share = min(1.0, (index + 1) / self.warmup) if self.warmup else 1.0
        plain = functional.cross_entropy(logits, target, label_smoothing=smoothing)
        return plain + share * self.robust * functional.relu(-worst).mean()


class NormTerm:
    """Adds the gradient of ``mu * sum_k (|W_k|_inf + |W_k|_1)``: largest row sum and largest column sum of absolute values.

    Convolutions count as matrices (out, in x height x width). Biases are left out.
    """

    def __init__(self, mu: float, network: Network) -> None:
        self._mu, self._network = mu, network

    def before(self, turn: Turn | None) -> None:
        """Nothing."""

    def after(self) -> None:
        """Nothing."""

    def pulled(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gradients with those of the term."""
        return {name: g + self._of(self._network.parameters[name].detach()) for name, g in grads.items()}

    def state(self) -> Any:
        """Nothing lasts beyond a step."""

    def restore(self, state: Any) -> None:
        """Nothing."""

    def _of(self, weight: Tensor) -> Tensor:
        found = torch.zeros_like(weight)
        if weight.ndim < 2:
            return found
        rows, flat = weight.flatten(1), found.view(len(weight), -1)
        row, column = rows.abs().sum(1).argmax(), rows.abs().sum(0).argmax()
        flat[row] += self._mu * rows[row].sign()
        flat[:, column] += self._mu * rows[:, column].sign()
        return found


class Noise:
    """Gaussian noise on the weights of a training pass; the update is made to the weights without it."""

    def __init__(self, sigma: float, network: Network, rng: Rng) -> None:
        self._sigma, self._network, self._rng = sigma, network, rng
        self._clean: dict[str, Tensor] = {}

    def before(self, turn: Turn | None) -> None:
        """Add it, if this pass trains."""
        if turn is not None:
            self._clean = _copy(self._network)
            step = self._rng.child(turn.index)  # a rehearsal has that of its batch
            noise = {n: torch.randn(t.shape, generator=step.child(n).torch()) for n, t in self._clean.items()}
            _set(self._network, {n: t + self._sigma * noise[n].to(t.device) for n, t in self._clean.items()})

    def after(self) -> None:
        """Nothing."""

    def pulled(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take it away."""
        _set(self._network, self._clean)
        return grads

    def state(self) -> Any:
        """Nothing lasts beyond a step."""

    def restore(self, state: Any) -> None:
        """Nothing."""


class Adversary:
    """Adversarial weights: in the rehearsal of a batch find the sign step that hurts, train from where it leads.

    Wu, Xia, Wang, Adversarial Weight Perturbation Helps Robust Generalization, NeurIPS 2020; here the perturbation is one
    step inside an entrywise ball, as the weights are attacked in that ball.
    """

    def __init__(self, eps: float, network: Network) -> None:
        self._eps, self._network = eps, network
        self._turn: Turn | None = None
        self._clean: dict[str, Tensor] = {}
        self._worst: Mapping[str, Tensor] = {}

    def before(self, turn: Turn | None) -> None:
        """Move, if this pass trains for good."""
        if turn is not None:
            self._turn = turn
            if not turn.rehearsal:
                self._clean = _copy(self._network)
                _set(self._network, {name: self._clean[name] + way for name, way in self._worst.items()})

    def after(self) -> None:
        """Nothing."""

    def pulled(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remember the way up after a rehearsal, else move back."""
        if self._turn is not None and self._turn.rehearsal:
            self._worst = {name: self._eps * g.sign() for name, g in grads.items()}
        else:
            _set(self._network, self._clean)
        return grads

    def state(self) -> Any:
        """Nothing lasts beyond a step: each begins with its rehearsal."""

    def restore(self, state: Any) -> None:
        """Nothing."""


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.parameters.items()}


def _set(network: Network, values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in values.items():
            network.parameters[name].copy_(tensor)


PLAIN = Hardening.model_validate({})
"""Nothing is added."""
