"""CAFE by ranks: an attacker who knows that values may be fake, and that their order is not.

Fake gradients keep the order of the true values of a tensor, and nothing else. While models stand still the gradients of
the first linear layer's weight, ``G_t = sum over n in S_t of v_n h_n'``, are sums of as many unknown matrices of rank one as
there are rows, whatever the number of rounds. So few sets of values fit both the order in each round and the sums over
known batches: this attack looks for one, as nonmetric scaling does (Kruskal, 1964). It needs no bias.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedsim.errors import ThreatModelError
from fedsim.message import Message, Scalar
from fedsim.scenarios.attacks._disclosed import check_trained, ends_in_relu, first_linear, layers_before, network
from fedsim.scenarios.attacks._invert import Inversion, invert
from fedsim.scenarios.attacks._ranks import Round, fit
from fedsim.scenarios.attacks._stillness import Kept, Stillness
from fedsim.seeding import Rng
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge, Tell
from fedsim.vfl.messages import Model, ParameterGradient


@dataclass(frozen=True)
class Seen:
    """What the attack keeps of the tapped link.

    Attributes:
        rng: the attacker's node.
        bottom: the victim's architecture, as JSON.
        layer: the name of its first linear layer.
        batches: the rows of each training step, by step.
        stretches: the steps.
    """

    rng: Rng
    bottom: str
    layer: str
    batches: Mapping[str, Tensor]
    stretches: Stillness[Round, Kept[Round]]


class AdaptiveCafe(AttackConfig):
    """Recover training images from the order of the values in weight gradients: no monotone distortion of them protects.

    Works on bottoms with layers before the first linear one, the last of them a ReLU: what that layer reads is recovered up to
    its length, so step III compares directions. Keeps the weight gradients of the window in memory, (T, d2, d1).
    """

    paper: ClassVar[str] = (
        "adapts Jin et al., CAFE, NeurIPS 2021, to the fake gradients of its section 4; "
        "Kruskal, Nonmetric multidimensional scaling, Psychometrika 1964"
    )
    about = "features"
    needs = ("rows", "bottom")
    sees = ("ParameterGradient", "Model")
    metrics = ("correlation", "psnr", "psnr_median", "share_above_30", "identified", "ssim", "mse")

    fits: int = Field(10, ge=1, description="how often values and rows are fitted to each other")
    recent: int = Field(400, ge=1, description="training steps to use when models never stand still")
    iterations: int = Field(150, ge=1, description="step III: iterations of each descent")
    restarts: int = Field(4, ge=0, description="step III: fresh starts for each row that stalls")

    def attack(self) -> Attack[Seen]:
        """See `AttackConfig.attack`."""
        return Attack(self._arm, _observe, self._claim)

    def _arm(self, knowledge: Knowledge, rng: Rng) -> Seen:
        batches = {str(step): rows for step, rows in knowledge.need("rows").items()}
        fact = knowledge.need("bottom")
        layer = _first_linear_behind_relu(network(fact.config, fact.tensors))
        check_trained(fact.config, [f"{layer}.weight"], "adaptive_cafe")
        stretches: Stillness[Round, Kept[Round]] = Stillness.of(
            fact.tensors, Kept[Round](), Kept[Round](most=self.recent)
        )
        return Seen(rng, json.dumps(dict(fact.config)), layer, batches, stretches)

    def _claim(self, state: Seen, tell: Tell) -> Claim:
        regime, log, model = state.stretches.best()
        rounds = log.rounds
        if not rounds:
            raise ThreatModelError("adaptive_cafe saw no parameter gradient of a training step")
        rows = torch.tensor(sorted({int(row) for r in rounds for row in r.rows}))
        h, misfit = fit(rounds, rows, self.fits, lambda done: tell(done / 2))
        config = json.loads(state.bottom)
        shape, before = tuple(config["shape"]), layers_before(network(config, model), state.layer)
        settings = Inversion(iterations=self.iterations, restarts=self.restarts, matching="cosine")
        node = state.rng.child("step III")
        values, residual = invert(before, h, shape, settings, node, lambda done: tell((1 + done) / 2))
        notes: dict[str, Scalar] = {
            "regime": regime,
            "rounds": len(rounds),
            "rows": len(rows),
            "misfit of ranks": misfit,
            "median residual": float(residual.median()),
        }
        return Claim(about="features", rows=rows, values=values, notes=notes)


def _observe(message: Message, state: Seen) -> Seen:
    if isinstance(message, ParameterGradient):
        new = Round(state.batches[str(message.step)], message.grads[f"{state.layer}.weight"])
        return replace(state, stretches=state.stretches.add(new))
    if isinstance(message, Model):
        return replace(state, stretches=state.stretches.on(message))
    return state


def _first_linear_behind_relu(bottom: nn.Sequential) -> str:
    name, _ = first_linear(bottom, "adaptive_cafe")
    if not ends_in_relu(layers_before(bottom, name)):
        raise ThreatModelError(
            "adaptive_cafe needs a bottom with layers before its first linear one, the last of them a ReLU"
        )
    return name
