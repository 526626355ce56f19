"""What the hub and the parties say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fedsim.message import Message


@dataclass(frozen=True, eq=False)
class Rows(Message):
    """Prologue: how many rows a party holds, so that a misaligned federation ends before it starts."""

    train: int
    test: int


@dataclass(frozen=True, eq=False)
class Embedding(Message):
    """A party's output for the rows of a step: ``z`` (B, E)."""

    z: Tensor


@dataclass(frozen=True, eq=False)
class Gradient(Message):
    """The gradient of the mean loss with respect to a party's embedding: ``g`` (B, E)."""

    g: Tensor


@dataclass(frozen=True, eq=False)
class ParameterGradient(Message):
    """The gradient of the mean loss with respect to a party's parameters, by name."""

    grads: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Model(Message):
    """The trained parameters and the buffers of a party's bottom, by name; frozen parameters stay where they are.

    In each training step a party whose bottom has buffers says what its pass has made of them, without parameters.
    """

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Both."""
        return {**self.parameters, **self.buffers}
