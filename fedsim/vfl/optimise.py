"""Optimisers over named parameters: what updates a bottom at its party, or at the hub when the exchange is shared."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.plugins import Settings

BETA2, EPSILON = 0.999, 1e-8


class OptimiserConfig(Settings):
    """Which optimiser, and how fast."""

    kind: Literal["sgd", "momentum", "adam"] = Field("adam", description="sgd | momentum | adam")
    lr: float = Field(1e-3, gt=0, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="for kind momentum")
    beta1: float = Field(
        0.9, ge=0, lt=1, description="for kind adam: how much of the running mean of gradients is kept"
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")

    def build(self, parameters: Mapping[str, Tensor]) -> Optimiser:
        """An optimiser that updates these tensors in place."""
        return Optimiser(self, parameters)


class Optimiser:
    """torch's update rules on named tensors: gradients come from messages, not from a graph.

    Adam is torch's fused kernel, called as ``torch.optim.Adam(fused=True)`` calls it and equal to it to the bit; going
    round that class saves three quarters of the cost of an update of a small model. The kernel's name is private: that
    class computes where torch has it no more.
    """

    def __init__(self, config: OptimiserConfig, parameters: Mapping[str, Tensor]) -> None:
        self.parameters = dict(parameters)
        self._config = config
        self._live = [p.detach() for p in self.parameters.values()]  # the same memory, outside of any graph
        self._first = [torch.zeros_like(p) for p in self._live]
        self._second = [torch.zeros_like(p) for p in self._live]
        self._steps = torch.zeros((), device=self._live[0].device if self._live else None)

    def step(self, grads: Mapping[str, Tensor], share: float = 1.0) -> None:
        """One update; ``grads`` has a gradient for each name. The learning rate is ``share`` of that in the settings."""
        if not self.parameters:  # everything is frozen
            return
        ordered = [grads[name] for name in self.parameters]
        if self._config.kind == "adam":
            self._adam(ordered, self._config.lr * share)
        else:
            self._sgd(ordered, self._config.lr * share)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the parameters as they are now, to be sent away."""
        return snapshot(self.parameters)

    def state(self) -> dict[str, Tensor]:
        """What it remembers of past gradients, by name: the live tensors."""
        first = {f"first.{name}": t for name, t in zip(self.parameters, self._first, strict=True)}
        second = {f"second.{name}": t for name, t in zip(self.parameters, self._second, strict=True)}
        return {**first, **second, "steps": self._steps}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what ``state`` says."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def _adam(self, grads: list[Tensor], lr: float) -> None:
        """Kingma and Ba, ICLR 2015, algorithm 1."""
        if not self._live:
            return
        if not _has_fused_kernel(self._live[0].device.type):
            self._adam_of_torch(grads, lr)
            return
        self._steps += 1
        torch._fused_adam_(
            self._live,
            grads,
            self._first,
            self._second,
            [],
            [self._steps] * len(self._live),
            lr=lr,
            beta1=self._config.beta1,
            beta2=BETA2,
            weight_decay=self._config.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def _adam_of_torch(self, grads: list[Tensor], lr: float) -> None:
        """The same update by torch's own class."""
        betas, decay = (self._config.beta1, BETA2), self._config.weight_decay
        optimiser = torch.optim.Adam(self._live, lr=lr, betas=betas, eps=EPSILON, weight_decay=decay, fused=True)
        for p, grad, first, second in zip(self._live, grads, self._first, self._second, strict=True):
            p.grad = grad
            optimiser.state[p] = {"step": self._steps.clone(), "exp_avg": first, "exp_avg_sq": second}
        optimiser.step()
        for p in self._live:
            p.grad = None
        self._steps += 1

    def _sgd(self, grads: list[Tensor], lr: float) -> None:
        momentum = self._config.momentum if self._config.kind == "momentum" else 0.0
        for p, g, velocity in zip(self._live, grads, self._first, strict=True):
            if self._config.weight_decay:
                g = g.add(p, alpha=self._config.weight_decay)
            if momentum:
                g = velocity.mul_(momentum).add_(g)
            p.add_(g, alpha=-lr)


@cache
def _has_fused_kernel(device: str) -> bool:
    """Whether this torch has the kernel under its private name, and takes what it is given here."""
    parameter, grad, first, second, step = (torch.ones(1, device=device) for _ in range(5))
    try:
        torch._fused_adam_(
            [parameter],
            [grad],
            [first],
            [second],
            [],
            [step],
            lr=0.1,
            beta1=0.9,
            beta2=BETA2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return True


def snapshot(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of named tensors, apart from any graph and on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in parameters.items()}


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named tensors where messages carry them; what is there already is not copied."""
    return {name: tensor.cpu() for name, tensor in tensors.items()}
