"""Clipping: nothing that passes is longer than a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.channel import Stage
from fedsim.message import Message, tensors_of, with_tensors
from fedsim.threat import Defence


@dataclass(frozen=True)
class Count:
    """How many messages passed, and how many were shortened."""

    messages: int = 0
    clipped: int = 0


class Clip(Defence):
    """Scale what is longer than ``norm`` (L2) down to it: the message as a whole, or each row by itself."""

    paper: ClassVar[str] = "Abadi et al., Deep Learning with Differential Privacy, CCS 2016, algorithm 1"

    norm: float = Field(1.0, gt=0, description="the longest L2 norm that passes")
    per: Literal["message", "row"] = Field("message", description="row: each row of each tensor on its own")

    def stage(self) -> Stage[Count]:
        """The state counts."""

        def apply(message: Message, count: Count) -> tuple[Message, Count]:
            if self.per == "row":
                factors = {name: self._by_row(tensor) for name, tensor in tensors_of(message).items()}
            else:
                factors = self._as_one(message)
            clipped = any(bool((factor < 1).any()) for factor in factors.values())
            after = with_tensors(message, lambda name, tensor: tensor * factors[name].to(tensor.dtype))
            return after, Count(count.messages + 1, count.clipped + clipped)

        return Stage(lambda rng: Count(), apply)

    def _as_one(self, message: Message) -> dict[str, Tensor]:
        floats = {name: t for name, t in tensors_of(message).items() if t.is_floating_point()}
        total = (
            torch.stack([t.double().pow(2).sum() for t in floats.values()]).sum().sqrt() if floats else torch.ones(())
        )
        return dict.fromkeys(floats, self._factor(total))

    def _by_row(self, tensor: Tensor) -> Tensor:
        if tensor.ndim < 2:
            return self._factor(tensor.double().norm())
        lengths = tensor.double().flatten(1).norm(dim=1)
        return self._factor(lengths).view(-1, *[1] * (tensor.ndim - 1))

    def _factor(self, length: Tensor) -> Tensor:
        return (self.norm / length.clamp_min(1e-300)).clamp(max=1.0)
