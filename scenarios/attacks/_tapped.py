"""What CAFE knows of its link whatever its loop: the schedule, the architecture, and which rows ever sent a gradient."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedsim.errors import ThreatModelError
from fedsim.message import Scalar
from fedsim.scenarios.attacks._disclosed import network
from fedsim.scenarios.attacks._objective import Whole
from fedsim.scenarios.attacks._recover import answers
from fedsim.seeding import Rng
from fedsim.vfl.messages import Gradient, ParameterGradient


@dataclass(frozen=True)
class Tapped:
    """What was granted, and what passes besides parameters.

    Attributes:
        rng: the attacker's node.
        bottom: the victim's architecture, as JSON.
        layer: the name of its first linear layer.
        batches: the rows of each training step, by step.
        size: one more than the largest row in them.
        g: gradients of the embeddings in the step under way, (B, E); None before the first, or if none pass here.
        answered: rows of whose embedding a gradient was ever sent, (N,) bool.
    """

    rng: Rng
    bottom: str
    layer: str
    batches: Mapping[str, Tensor]
    size: int
    g: Tensor | None = None
    answered: Tensor | None = None

    def hear(self, message: Gradient) -> Tapped:
        """After gradients of embeddings."""
        if message.purpose != "train":
            return self
        rows = self.batches[str(message.step)]
        answered = torch.zeros(self.size, dtype=torch.bool) if self.answered is None else self.answered
        return replace(self, g=message.g, answered=answered.index_fill(0, rows[answers(message.g)], True))

    def whole(self, message: ParameterGradient, granted: bool) -> Whole:
        """A round with all its gradients; those of the embeddings only if they are ``granted``.

        Raises:
            ThreatModelError: they are, but none passed.
        """
        if granted and self.g is None:
            raise ThreatModelError("cafe: labels: granted needs the gradients of embeddings, and none passed here")
        return Whole(self.batches[str(message.step)], message.grads, self.g if granted else None)

    def network(self, model: Mapping[str, Tensor]) -> nn.Sequential:
        """The bottom with these parameters."""
        return network(json.loads(self.bottom), model)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""
        return tuple(json.loads(self.bottom)["shape"])

    def silent(self, dead: Tensor) -> dict[str, Scalar]:
        """Of rows without gradient (n,): where it ends."""
        if self.answered is None or not len(dead):
            return {"rows without gradient": len(dead)}
        clamped = int(self.answered[dead].sum())
        return {
            "rows without gradient": len(dead),
            "silent at the embedding": len(dead) - clamped,
            "clamped before the layer": clamped,
        }

    def unsampled(self, rows: Tensor) -> int:
        """How many rows of the schedule are not among ``rows``."""
        return len({int(row) for batch in self.batches.values() for row in batch}) - len(rows)
