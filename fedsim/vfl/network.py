"""A module that runs reproducibly: whatever it draws (dropout) comes from a named node of the step.

What befalls its weights, be it a fault or a way to train, is put around its passes (`Strike`). It computes on the device of
its process; what goes in and what comes out lies on the CPU, where messages are.

A model is its parameters *and* its buffers (running statistics, power iterations, counters): both are saved, sent and taken
over. Each pass runs the module in one of two modes, and either moves the buffers or leaves them as they are:

| pass                                               | mode       | buffers move |
|----------------------------------------------------|------------|--------------|
| a training turn, each exchange of it               | training   | yes          |
| a held turn: frozen models, rehearsal, inner steps | training   | no           |
| a quiet turn                                       | evaluation | no           |
| inference, attacks on a trained model              | evaluation | no           |

Held turns keep the mode in which the model learns, because their gradients have to be those of the training loss. A training
batch with one value a channel has no statistics; batch normalisation uses its running ones there, and they stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fedsim.seeding import Rng
from fedsim.state import Lasting, digest
from fedsim.vfl.device import find_device
from fedsim.vfl.modules import allow_single_rows, may_draw, model_tensors, scratch_buffers, trained_parameters
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

    What `build` left in evaluation mode stays in it: frozen layers keep the statistics they came with.

    Attributes:
        module: the torch module.
        parameters: the live tensors of all parameters, by name.
        trained: those that are trained, by name; frozen ones (``requires_grad`` is false) are not among them.
            ``live``: without their names.
        strikes: what befalls the parameters, in order.
        draws: whether a training pass may draw (dropout, layers of a user's own).
        by_row: whether it draws in evaluation, too. Each row is then inferred by itself, from a node that its values name, so
            that no answer depends on the rows beside it.
    """

    def __init__(self, module: nn.Module, rng: Rng, by_row: bool = False) -> None:
        self._device = find_device()
        self.module = module.to(self._device)
        self.parameters: dict[str, Tensor] = dict(module.named_parameters())
        self.trained: dict[str, Tensor] = trained_parameters(module)
        self.live: list[Tensor] = list(self.trained.values())
        self.strikes: list[Strike] = []
        self.draws, self.by_row = may_draw(module), by_row
        self._rng = rng
        self._fixed = [part for part in module.modules() if not part.training]
        self._buffered = any(True for _ in module.buffers())
        allow_single_rows(module)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """The live buffers, by name."""
        return dict(self.module.named_buffers()) if self._buffered else {}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that makes up the trained model, by name: parameters and buffers."""
        return model_tensors(self.module)

    def train(self, inputs: Tensor, turn: Turn, through: Through | None = None) -> Tensor:
        """A pass that keeps its graph; the module's mode and what becomes of its buffers follow from the turn."""
        for strike in self.strikes:
            strike.before(turn)
        self._switch(not turn.quiet)
        with self._drawing("forward", turn.step), self._keeping(turn.hold or turn.quiet or turn.purpose != "train"):
            return self._pass(inputs, through)

    def infer(self, inputs: Tensor) -> Tensor:
        """A pass without graph, in evaluation mode."""
        self._switch(False)
        within = self.in_use() if self.strikes else nullcontext()
        with within, torch.no_grad(), self._keeping(True):
            if self.by_row and len(inputs):
                return torch.cat([self._infer_row(row) for row in torch.split(inputs, 1)])
            with self._drawing("infer"):
                return self._pass(inputs)

    def draws_in_evaluation(self, rows: Tensor) -> bool:
        """Whether two inferences of the same rows differ when they draw from different nodes."""
        if not self.draws:
            return False
        self._switch(False)
        with torch.no_grad(), self._keeping(True):
            found = []
            for i in range(2):
                with self._drawing("infer", i):
                    found.append(self._pass(rows))
        return not torch.equal(*found)

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
        """Gradients with respect to ``inputs`` of the pass and to each trained parameter, from that of its output (None: 1).

        Parameters that the output does not depend on have a gradient of zeros.
        """
        found = gradients(output, self.live if inputs is None else [inputs, *self.live], g)
        grads = dict(zip(self.trained, found[len(found) - len(self.live) :], strict=True))
        for strike in reversed(self.strikes):
            grads = strike.pulled(grads)
        return (None if inputs is None else found[0]), grads

    def state(self) -> Any:
        """See `Lasting`: parameters, buffers, and what strikes them."""
        return {"tensors": self.tensors, "strikes": tuple(strike.state() for strike in self.strikes)}

    def restore(self, state: Any) -> None:
        """See `Lasting`."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(state["tensors"][name])
        for strike, before in zip(self.strikes, state["strikes"], strict=True):
            strike.restore(before)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the values of all parameters and buffers, by name.

        Raises:
            ValueError: a name or a shape differs; says which.
        """
        self._take_over(self.tensors, tensors)

    def load_update(self, trained: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
        """Take over the values of the trained parameters and of the buffers, by name; frozen parameters stay.

        Raises:
            ValueError: as in `load`.
        """
        self._take_over(self.trained | self.buffers, {**trained, **buffers})

    @staticmethod
    def _take_over(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        if own.keys() != tensors.keys():
            raise ValueError(f"parameters differ: {sorted(own.keys() ^ tensors.keys())}")
        with torch.no_grad():
            for name, tensor in own.items():
                if tensor.shape != tensors[name].shape:
                    found, expected = tuple(tensors[name].shape), tuple(tensor.shape)
                    raise ValueError(f"{name}: shape {found}, expected {expected}")
                tensor.copy_(tensors[name])

    def _switch(self, training: bool) -> None:
        if self.module.training != training:
            self.module.train(training)
            for part in self._fixed:
                part.training = False

    def _drawing(self, *names: str | int) -> AbstractContextManager[None]:
        return self._rng.child(*names).as_global() if self.draws else nullcontext()

    def _keeping(self, keep: bool) -> AbstractContextManager[None]:
        return scratch_buffers(self.module) if keep and self._buffered else nullcontext()

    def _infer_row(self, row: Tensor) -> Tensor:
        with self._drawing("infer", digest({"row": row})):
            return self._pass(row)

    def _pass(self, inputs: Tensor, through: Through | None = None) -> Tensor:
        if self._device.type != "cpu":
            inputs = inputs.to(self._device)
        output: Tensor = self.module(inputs) if through is None else through(self.module, inputs)
        return output if self._device.type == "cpu" else output.cpu()


def gradients(
    output: Tensor, inputs: Sequence[Tensor], g: Tensor | None = None, keep_graph: bool = False
) -> list[Tensor]:
    """The gradient of ``output`` with respect to each of ``inputs``, from that of itself (None: 1); zeros where none flows."""
    if not inputs or not output.requires_grad:
        return [torch.zeros_like(each) for each in inputs]
    found = torch.autograd.grad(
        output, list(inputs), g, retain_graph=keep_graph or None, allow_unused=True, materialize_grads=True
    )
    return list(found)
