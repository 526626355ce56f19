"""Top-k: only the largest values are sent, the others are zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.channel import Stage
from fedsim.message import Message, tensors_of, with_tensors
from fedsim.threat import Defence


@dataclass(frozen=True)
class Held:
    """What was not sent so far, by kind and tensor (only with ``feedback``); how many values passed, and how many were sent."""

    back: Mapping[str, Tensor] = field(default_factory=dict)
    values: int = 0
    sent: int = 0


class TopK(Defence):
    """Keep the ``ceil(keep * n)`` values of largest magnitude and send zeros for the others.

    Tensors keep their shape, so it saves no bytes here. With ``feedback`` what was not sent is added to the next message of
    training that has the same shapes, so that nothing is lost in the long run.
    """

    paper: ClassVar[str] = (
        "Aji and Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017, algorithm 1"
    )

    keep: float = Field(0.1, gt=0, le=1, description="share of the values that is sent")
    per: Literal["tensor", "message"] = Field("tensor", description="what the largest are chosen among")
    feedback: bool = Field(False, description="add what was not sent to the next message")

    def stage(self) -> Stage[Held]:
        """The state holds what was not sent, and counts."""

        def apply(message: Message, held: Held) -> tuple[Message, Held]:
            floats = {name: t.detach() for name, t in tensors_of(message).items() if t.is_floating_point()}
            feeding = self.feedback and message.purpose == "train"
            keys = {name: f"{message.kind()}, {name}, {tuple(t.shape)}" for name, t in floats.items()}
            if feeding:
                floats = {name: t + held.back.get(keys[name], torch.zeros_like(t)) for name, t in floats.items()}
            kept = self._kept(floats)
            sent = {name: torch.where(kept[name], t, torch.zeros_like(t)) for name, t in floats.items()}
            left = {keys[name]: t - sent[name] for name, t in floats.items()} if feeding else {}
            count = sum(t.numel() for t in floats.values())
            chosen = sum(int(mask.sum()) for mask in kept.values())
            after = with_tensors(message, lambda name, tensor: sent.get(name, tensor))
            return after, Held({**held.back, **left}, held.values + count, held.sent + chosen)

        return Stage(lambda rng: Held(), apply)

    def _kept(self, floats: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks by name; ties go to the earlier value."""
        if self.per == "tensor":
            return {name: self._largest(t.flatten()).view(t.shape) for name, t in floats.items()}
        if not floats:
            return {}
        mask = self._largest(torch.cat([t.flatten().double() for t in floats.values()]))
        parts = torch.split(mask, [t.numel() for t in floats.values()])
        return {name: part.view(t.shape) for (name, t), part in zip(floats.items(), parts, strict=True)}

    def _largest(self, flat: Tensor) -> Tensor:
        mask = torch.zeros(flat.shape, dtype=torch.bool)
        order = flat.abs().sort(descending=True, stable=True).indices
        mask[order[: math.ceil(self.keep * flat.numel())]] = True
        return mask
