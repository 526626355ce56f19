"""Unmix: the gradient of every single row is a linear solve away, and a batch of one hides nothing.

While models stand still, the gradients D of T known batches are ``D = A P``: A is the membership of rows in batches, P the
gradients of single rows. Once A has rank N, ``P = pinv(A) D`` holds for every parameter alike, and each row of P goes to an
inversion of a batch of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fedsim.errors import ThreatModelError
from fedsim.message import Message
from fedsim.scenarios.attacks._disclosed import (
    check_trained,
    first_linear,
    layers_before,
    network,
    passes_features_on,
    trained_names,
)
from fedsim.scenarios.attacks._invert import Inversion, invert
from fedsim.scenarios.attacks._matching import Batches, Matching, match
from fedsim.scenarios.attacks._stillness import Kept, Stillness
from fedsim.scenarios.attacks._unmixing import apart, inputs, unmixing
from fedsim.seeding import Rng
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge, Tell
from fedsim.vfl.messages import Gradient, Model, ParameterGradient

TOGETHER = 32
"""Rows whose gradients are held at once."""


@dataclass(frozen=True)
class Round:
    """One training step: its rows, the gradient of the embeddings (B, E) and those of the kept parameters, by name."""

    rows: Tensor
    g: Tensor
    grads: Mapping[str, Tensor]


@dataclass(frozen=True)
class Seen:
    """What is kept of the tapped link.

    Attributes:
        rng: the attacker's node.
        bottom: the victim's architecture, as JSON.
        layer: the name of its first linear layer; gradients are kept up to it.
        kept: the names of the parameters whose gradients are kept.
        batches: the rows of each training step, by step.
        stretches: the steps.
        g: gradients of the embeddings in the step under way.
    """

    rng: Rng
    bottom: str
    layer: str
    kept: tuple[str, ...]
    batches: Mapping[str, Tensor]
    stretches: Stillness[Round, Kept[Round]]
    g: Tensor | None = None


class Unmix(AttackConfig):
    """Solve for the gradient of every single row, then invert each as a batch of one.

    The input of the first linear layer follows from that layer's gradient in closed form; what comes before the layer is
    inverted as in step III of CAFE (``matching: representation``), or all gradients up to the layer are matched as in DLG
    (``matching: gradients``). On exact gradients the representations equal CAFE's. This attack also does without the bias (up
    to the scale of the representation) and sees the other layers; ``docs/baselines.md`` has what noise costs either.
    Memory: gradients are kept up to and including the first linear layer only, T times. Without a window in which models
    stand still it takes the last ``recent`` rounds as if they had: expect nothing.
    """

    about = "features"
    needs = ("rows", "bottom")
    sees = ("Gradient", "ParameterGradient", "Model")
    metrics = ("psnr", "psnr_median", "share_above_30", "correlation", "mse")

    recent: int = Field(400, ge=1, description="rounds to use when models never stand still")
    matching: Literal["representation", "gradients"] = Field(
        "representation",
        description="what is inverted of each row: the first linear layer's input | all gradients kept",
    )
    iterations: int = Field(
        150, ge=1, description="iterations of each descent; matching gradients takes four times as many"
    )
    restarts: int = Field(4, ge=1, description="fresh starts for each row")

    def attack(self) -> Attack[Seen]:
        """See `AttackConfig.attack`."""
        return Attack(self._arm, _observe, self._claim)

    def _arm(self, knowledge: Knowledge, rng: Rng) -> Seen:
        batches = {str(step): rows for step, rows in knowledge.need("rows").items()}
        bottom = knowledge.need("bottom")
        built = network(bottom.config, bottom.tensors)
        name, layer = first_linear(built, "unmix")
        if layer.bias is None and passes_features_on(layers_before(built, name)):
            raise ThreatModelError("unmix: without a bias the scale of the features that the layer reads is unknown")
        check_trained(
            bottom.config, [each for each in (f"{name}.weight", f"{name}.bias") if each in bottom.tensors], "unmix"
        )
        names = trained_names(bottom.config, "unmix")
        last = max(i for i, each in enumerate(names) if each.startswith(f"{name}."))
        stretches: Stillness[Round, Kept[Round]] = Stillness.of(
            bottom.tensors, Kept[Round](), Kept[Round](most=self.recent)
        )
        return Seen(rng, json.dumps(dict(bottom.config)), name, tuple(names[: last + 1]), batches, stretches)

    def _claim(self, state: Seen, tell: Tell) -> Claim:
        regime, log, model = state.stretches.best()
        rounds = log.rounds
        if not rounds:
            raise ThreatModelError("unmix saw no parameter gradient of a training step")
        rows = torch.unique(torch.cat([r.rows for r in rounds]))
        inverse, rank = unmixing([r.rows for r in rounds], rows)
        bottom = network(json.loads(state.bottom), model)
        by = self._by_gradients if self.matching == "gradients" else self._by_representation
        values, alive, residual = by(state, bottom, rounds, inverse, rows, tell)
        notes: dict[str, bool | int | float | str] = {
            "regime": regime,
            "rounds": len(rounds),
            "rank": rank,
            "rows": len(rows),
            "rows without gradient": int((~alive).sum()),
            "median residual": float(residual.median()),
        }
        return Claim(about="features", rows=rows, values=values, notes=notes)

    def _by_representation(
        self, state: Seen, bottom: nn.Sequential, rounds: tuple[Round, ...], inverse: Tensor, rows: Tensor, tell: Tell
    ) -> tuple[Tensor, Tensor, Tensor]:
        h, alive = representations(state, rounds, inverse)
        shape = tuple(json.loads(state.bottom)["shape"])
        before = layers_before(bottom, state.layer)
        if passes_features_on(before):
            return h.float().view(-1, *shape), alive, torch.zeros(len(rows))
        scaled: Literal["l2", "cosine"] = "l2" if f"{state.layer}.bias" in state.kept else "cosine"
        settings = Inversion(iterations=self.iterations, restarts=self.restarts, matching=scaled)
        values, residual = invert(before, h.float(), shape, settings, state.rng.child("invert"), tell)
        return values, alive, residual

    def _by_gradients(
        self, state: Seen, bottom: nn.Sequential, rounds: tuple[Round, ...], inverse: Tensor, rows: Tensor, tell: Tell
    ) -> tuple[Tensor, Tensor, Tensor]:
        settings = Matching("l2", 4 * self.iterations, self.restarts, 0.1)
        shape = tuple(json.loads(state.bottom)["shape"])
        g = _of_single_rows(rounds, rows)
        found = []
        for first in range(0, len(rows), TOGETHER):
            part = slice(first, first + TOGETHER)
            single = {name: apart(inverse[part], [r.grads[name] for r in rounds]).float() for name in state.kept}
            seen = Batches(g[part], torch.zeros_like(g[part]), single)
            found.append(match(bottom, seen, shape, settings, state.rng.child("match", first), lambda done: None))
            tell(min(1.0, (first + TOGETHER) / len(rows)))
        values = torch.cat([v[:, 0] for v, _ in found])
        return values, g.flatten(1).norm(dim=1) > 0, torch.cat([residual for _, residual in found])


def representations(state: Seen, rounds: tuple[Round, ...], inverse: Tensor) -> tuple[Tensor, Tensor]:
    """The input h (n, d1) of the first linear layer for every row, and which rows answer at all."""
    weight, bias = f"{state.layer}.weight", f"{state.layer}.bias"
    found = []
    for part in torch.split(inverse, TOGETHER):
        v = apart(part, [r.grads[bias] for r in rounds]) if bias in state.kept else None
        found.append(inputs(apart(part, [r.grads[weight] for r in rounds]), v))
    return torch.cat([h for h, _ in found]), torch.cat([alive for _, alive in found])


def _of_single_rows(rounds: tuple[Round, ...], rows: Tensor) -> Tensor:
    """The gradient of each row's own loss with respect to its embedding, (n, 1, E): seen times the size of the batch."""
    g = torch.zeros(len(rows), 1, rounds[0].g.shape[1])
    for r in rounds:
        g[torch.searchsorted(rows, r.rows), 0] = r.g * len(r.rows)
    return g


def _observe(message: Message, state: Seen) -> Seen:
    if isinstance(message, Gradient) and message.purpose == "train":
        return replace(state, g=message.g)
    if isinstance(message, ParameterGradient) and state.g is not None:
        grads = {name: message.grads[name] for name in state.kept}
        new = Round(state.batches[str(message.step)], state.g, grads)
        return replace(state, stretches=state.stretches.add(new))
    if isinstance(message, Model):
        return replace(state, stretches=state.stretches.on(message))
    return state
