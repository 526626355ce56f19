"""What gradient matching attacks keep of a tapped link: a few whole rounds, each with the model that it ran on."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedsim.errors import ThreatModelError
from fedsim.message import Message
from fedsim.scenarios.attacks._disclosed import equal, network, trained_names, updated
from fedsim.scenarios.attacks._matching import Batches, Matching, match
from fedsim.seeding import Rng
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge, Tell
from fedsim.vfl.messages import Embedding, Gradient, Model, ParameterGradient


@dataclass(frozen=True)
class Round:
    """One training step.

    Attributes:
        generation: how often the model had moved before; rounds of one generation ran on one and the same model.
        model: its parameters.
        rows: who was in the batch, (B,) int64.
        g, z: gradients of the embeddings, and the embeddings, (B, E).
        grads: gradients of the parameters, by name.
    """

    generation: int
    model: Mapping[str, Tensor]
    rows: Tensor
    g: Tensor
    z: Tensor
    grads: Mapping[str, Tensor]


@dataclass(frozen=True)
class Seen:
    """What the attacker has so far.

    Attributes:
        rng: the attacker's node.
        bottom: the victim's architecture, as JSON.
        batches: the rows of each training step, by step.
        model: the victim's parameters at present, and how often they have moved.
        g, z: gradients and embeddings of the step under way.
        rounds: those that are kept.
    """

    rng: Rng
    bottom: str
    batches: Mapping[str, Tensor]
    model: Mapping[str, Tensor]
    generation: int = 0
    g: Tensor | None = None
    z: Tensor | None = None
    rounds: tuple[Round, ...] = ()


class GradientMatching(AttackConfig):
    """Invert the first ``batches`` rounds that bring new rows, each by itself; other rows are not claimed."""

    about = "features"
    needs = ("rows", "bottom")
    sees: ClassVar[tuple[str, ...]] = ("Gradient", "ParameterGradient", "Model")
    metrics = ("psnr", "psnr_median", "share_above_30", "correlation", "mse")

    batches: int = Field(8, ge=1, description="rounds to invert: the first that bring new rows")
    iterations: int = Field(600, ge=1, description="steps of each descent: the budget, instead of a clock")
    restarts: int = Field(2, ge=1, description="random starts for each batch; the one that ends nearest is kept")
    embeddings: bool = Field(False, description="match the embeddings that the server sees, too; no paper does")

    @abstractmethod
    def matching(self) -> Matching:
        """How rows are looked for."""

    def attack(self) -> Attack[Seen]:
        """See `AttackConfig.attack`."""
        return Attack(self._arm, self._observe, self._claim)

    def gradient(self, state: Seen, grads: Mapping[str, Tensor], rows: int) -> Tensor | None:
        """What is known of the gradients of the embeddings when those of the parameters have come, (B, E)."""
        return state.g

    def _arm(self, knowledge: Knowledge, rng: Rng) -> Seen:
        batches = {str(step): rows for step, rows in knowledge.need("rows").items()}
        bottom = knowledge.need("bottom")
        network(bottom.config, bottom.tensors)
        trained_names(bottom.config, self.kind())
        return Seen(rng, json.dumps(dict(bottom.config)), batches, bottom.tensors)

    def _observe(self, message: Message, state: Seen) -> Seen:
        if isinstance(message, Model):
            if equal(message.tensors, state.model):
                return state
            return replace(state, model=updated(state.model, message), generation=state.generation + 1)
        if message.purpose != "train" or len(state.rounds) == self.batches:
            return state
        if isinstance(message, Embedding):
            return replace(state, z=message.z)
        if isinstance(message, Gradient):
            return replace(state, g=message.g)
        return self._with(message, state) if isinstance(message, ParameterGradient) else state

    def _with(self, message: ParameterGradient, state: Seen) -> Seen:
        rows = state.batches[str(message.step)]
        g = self.gradient(state, message.grads, len(rows))
        known = torch.cat([torch.empty(0, dtype=torch.int64), *(r.rows for r in state.rounds)])
        if g is None or bool(torch.isin(rows, known).all()):
            return state
        z = torch.zeros_like(g) if state.z is None else state.z
        new = Round(state.generation, state.model, rows, g, z, message.grads)
        return replace(state, rounds=(*state.rounds, new))

    def _claim(self, state: Seen, tell: Tell) -> Claim:
        if not state.rounds:
            raise ThreatModelError(f"{self.kind()} saw no parameter gradient of a training step")
        groups = _alike(state.rounds)
        best: dict[int, tuple[float, Tensor]] = {}
        residuals = []
        for nth, group in enumerate(groups):
            part = _part(tell, nth, len(groups))
            for r, (values, residual) in zip(group, self._invert(state, group, nth, part), strict=True):
                residuals.append(residual)
                for row, value in zip(r.rows.tolist(), values, strict=True):
                    if row not in best or residual < best[row][0]:
                        best[row] = residual, value
        rows = torch.tensor(sorted(best))
        mean = sum(residuals) / len(residuals)
        notes = {"batches": len(residuals), "rows": len(rows), "mean residual": mean}
        return Claim(
            about="features", rows=rows, values=torch.stack([best[row][1] for row in sorted(best)]), notes=notes
        )

    def _invert(self, state: Seen, group: Sequence[Round], nth: int, tell: Tell) -> list[tuple[Tensor, float]]:
        """The rows of each round of a group, and its residual."""
        config = json.loads(state.bottom)
        grads = {name: torch.stack([r.grads[name] for r in group]) for name in group[0].grads}
        seen = Batches(torch.stack([r.g for r in group]), torch.stack([r.z for r in group]), grads)
        bottom = network(config, group[0].model)
        rng = state.rng.child("batches", nth)
        rows, residual = match(bottom, seen, tuple(config["shape"]), self.matching(), rng, tell)
        return list(zip(rows, residual.tolist(), strict=True))


def _alike(rounds: Sequence[Round]) -> list[list[Round]]:
    """Rounds of one model and one size go together."""
    groups: dict[tuple[int, int], list[Round]] = {}
    for r in rounds:
        groups.setdefault((r.generation, len(r.rows)), []).append(r)
    return list(groups.values())


def _part(tell: Tell, nth: int, total: int) -> Callable[[float], None]:
    return lambda done: tell((nth + done) / total)
