"""A module that runs reproducibly: whatever it draws (dropout) comes from a named node of the step.

What befalls its weights, be it a fault or a way to train, is put around its passes (`Strike`). It computes on the device of
its process; what goes in and what comes out lies on the CPU, where messages are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fedsim.seeding import Rng
from fedsim.state import Lasting
from fedsim.vfl.device import find_device
from fedsim.vfl.schedule import Turn

Through = Callable[[nn.Module, Tensor], Tensor]
"""How inputs pass a module, where that is more than a call."""


class Strike(Lasting, Protocol):
    """What befalls the parameters of a network around its passes; it may write to them. Its state is asked for between them."""

    def before(self, turn: Turn | None) -> None:
        """A pass begins: of a training turn, or (None) one that only infers."""

    def after(self) -> None:
        """A pass that only infers is over."""

    def pulled(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gradients of a training turn, by name, are there and no update is made yet; returns those that go on."""


class Network:
    """A module with its parameters by name and its own random node.

    Attributes:
        module: the torch module.
        parameters: the live tensors, by name; ``live`` without their names.
        strikes: what befalls the parameters, in order.
        draws: whether a training pass draws (dropout).
    """

    def __init__(self, module: nn.Module, rng: Rng) -> None:
        self._device = find_device()
        self.module = module.to(self._device)
        self.parameters: dict[str, Tensor] = dict(module.named_parameters())
        self.live: list[Tensor] = list(self.parameters.values())
        self.strikes: list[Strike] = []
        self._rng = rng
        self.draws = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in module.modules())

    def train(self, inputs: Tensor, turn: Turn, through: Through | None = None) -> Tensor:
        """A pass that keeps its graph; without dropout in a quiet turn."""
        for strike in self.strikes:
            strike.before(turn)
        if not self.draws:
            return self._pass(inputs, through)
        self.module.train(not turn.quiet)
        with self._rng.child("forward", turn.step).as_global():
            return self._pass(inputs, through)

    def infer(self, inputs: Tensor) -> Tensor:
        """A pass without graph and without dropout."""
        if self.draws:
            self.module.eval()
        if not self.strikes:
            with torch.no_grad():
                return self._pass(inputs)
        with self.in_use(), torch.no_grad():
            return self._pass(inputs)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the parameters are those that an inference uses."""
        for strike in self.strikes:
            strike.before(None)
        try:
            yield
        finally:
            for strike in reversed(self.strikes):
                strike.after()

    def pull_back(
        self, output: Tensor, g: Tensor | None = None, inputs: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Gradients with respect to ``inputs`` of the pass and to each parameter, from that of its output (None: 1)."""
        wanted = self.live if inputs is None else [inputs, *self.live]
        found = torch.autograd.grad(output, wanted, g)
        grads = dict(zip(self.parameters, found[len(found) - len(self.live) :], strict=True))
        for strike in reversed(self.strikes):
            grads = strike.pulled(grads)
        return (None if inputs is None else found[0]), grads

    def _pass(self, inputs: Tensor, through: Through | None = None) -> Tensor:
        if self._device.type != "cpu":
            inputs = inputs.to(self._device)
        output: Tensor = self.module(inputs) if through is None else through(self.module, inputs)
        return output if self._device.type == "cpu" else output.cpu()

    def state(self) -> Any:
        """See `Lasting`: parameters, buffers, and what strikes them."""
        tensors = {**self.parameters, **dict(self.module.named_buffers())}
        return {"tensors": tensors, "strikes": tuple(strike.state() for strike in self.strikes)}

    def restore(self, state: Any) -> None:
        """See `Lasting`."""
        own = {**self.parameters, **dict(self.module.named_buffers())}
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state["tensors"][name])
        for strike, before in zip(self.strikes, state["strikes"], strict=True):
            strike.restore(before)

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
