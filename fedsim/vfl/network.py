"""A module that runs reproducibly: whatever it draws (dropout) comes from a named node of the step.

It computes on the device of its process; what goes in and what comes out lies on the CPU, where messages are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedsim.seeding import Rng
from fedsim.vfl.schedule import Turn

DEVICE = "FEDSIM_DEVICE"
"""The environment variable that names torch's device for the networks of this process; without it the CPU."""


class Network:
    """A module with its parameters by name and its own random node.

    Attributes:
        module: the torch module.
        parameters: the live tensors, by name; ``live`` without their names.
    """

    def __init__(self, module: nn.Module, rng: Rng) -> None:
        self._device = torch.device(os.environ.get(DEVICE, "cpu"))
        self.module = module.to(self._device)
        self.parameters: dict[str, Tensor] = dict(module.named_parameters())
        self.live: list[Tensor] = list(self.parameters.values())
        self._rng = rng
        self._draws = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in module.modules())

    def train(self, inputs: Tensor, turn: Turn) -> Tensor:
        """A pass that keeps its graph; without dropout in a quiet turn."""
        if not self._draws:
            return self._pass(inputs)
        self.module.train(not turn.quiet)
        with self._rng.child("forward", turn.step).as_global():
            return self._pass(inputs)

    def infer(self, inputs: Tensor) -> Tensor:
        """A pass without graph and without dropout."""
        if self._draws:
            self.module.eval()
        with torch.no_grad():
            return self._pass(inputs)

    def _pass(self, inputs: Tensor) -> Tensor:
        if self._device.type == "cpu":
            return self.module(inputs)  # type: ignore[no-any-return]
        return self.module(inputs.to(self._device)).cpu()  # type: ignore[no-any-return]

    def load(self, parameters: Mapping[str, Tensor]) -> None:
        """Take over values by name.

        Raises:
            ValueError: a name or a shape differs; says which.
        """
        if self.parameters.keys() != parameters.keys():
            raise ValueError(f"parameters differ: {sorted(self.parameters.keys() ^ parameters.keys())}")
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                if tensor.shape != parameters[name].shape:
                    found, expected = tuple(parameters[name].shape), tuple(tensor.shape)
                    raise ValueError(f"{name}: shape {found}, expected {expected}")
                tensor.copy_(parameters[name])
