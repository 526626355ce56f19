"""Optimisers over named parameters: what updates a bottom at its party, or at the hub when the exchange is shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.plugins import Settings


class OptimiserConfig(Settings):
    """Which optimiser, and how fast."""

    kind: Literal["sgd", "momentum", "adam"] = Field("adam", description="sgd | momentum | adam")
    lr: float = Field(1e-3, gt=0, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="for kind momentum")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")

    def build(self, parameters: Mapping[str, Tensor]) -> Optimiser:
        """An optimiser that updates these tensors in place."""
        return Optimiser(self, parameters)


class Optimiser:
    """torch's optimiser behind names: gradients come from messages, not from a graph."""

    def __init__(self, config: OptimiserConfig, parameters: Mapping[str, Tensor]) -> None:
        self.parameters = dict(parameters)
        self._torch = _torch_optimiser(config, list(self.parameters.values()))

    def step(self, grads: Mapping[str, Tensor]) -> None:
        """One update; ``grads`` has a gradient for each name."""
        for name, parameter in self.parameters.items():
            parameter.grad = grads[name]
        self._torch.step()

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the parameters as they are now, to be sent away."""
        return snapshot(self.parameters)


def snapshot(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of named tensors, apart from any graph."""
    return {name: tensor.detach().clone() for name, tensor in parameters.items()}


def _torch_optimiser(config: OptimiserConfig, tensors: list[Tensor]) -> torch.optim.Optimizer:
    if config.kind == "adam":
        return torch.optim.Adam(tensors, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    momentum = config.momentum if config.kind == "momentum" else 0.0
    return torch.optim.SGD(tensors, lr=config.lr, momentum=momentum, weight_decay=config.weight_decay, fused=True)
