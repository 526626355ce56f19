"""CAFE: catastrophic data leakage, from the parameter gradients of a bottom whose first linear layer has a bias.

For a batch S_t the gradients of that layer's bias and weight are sums over the batch, ``sum v_n`` and ``sum v_n h_n'``,
with h_n the layer's input and v_n the gradient at its output. While models stand still, N rounds of known batches
determine every v_n (step I), then every h_n (step II); step III looks for the rows whose h is that. The size of a batch
protects nobody. Labels are not needed: the v_n come from step I, and step III matches h alone (the paper's
gradient-matching term, the only one that labels enter, is left out).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from fedsim.errors import ThreatModelError
from fedsim.message import Message, Scalar
from fedsim.seeding import Rng
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge, Tell
from fedsim.vfl.messages import Model, ParameterGradient
from scenarios.attacks._disclosed import check_reads_vectors, first_linear, layers_before, network, passes_features_on
from scenarios.attacks._invert import Inversion, invert
from scenarios.attacks._recover import equations, exact, recover
from scenarios.attacks._stillness import Stillness
from scenarios.attacks._stream import Round, Stream


@dataclass(frozen=True)
class Seen:
    """What CAFE keeps of the tapped link: O(N k d1), and the bias gradients.

    Attributes:
        rng: the attacker's node.
        bottom: the victim's architecture, as JSON.
        layer: the name of its first linear layer.
        batches: the rows of each training step, by step.
        stretches: the rounds, summed up.
    """

    rng: Rng
    bottom: str
    layer: str
    batches: Mapping[str, Tensor]
    stretches: Stillness[Round, Stream]


class Cafe(AttackConfig):
    """Recover every training row of a party from the gradients of its parameters (steps I and II solved exactly).

    With a window in which models stand still the recovery is exact (regime ``frozen``). Without one every round has other v
    and h; the rounds are then solved as if nothing had moved, recent ones weighing more (``training``): expect less.
    """

    paper: ClassVar[str] = "Jin et al., CAFE, NeurIPS 2021, arXiv 2110.15122, algorithms 1 to 3; solved in closed form"
    about = "features"
    needs = ("rows", "bottom")
    sees = ("ParameterGradient", "Model")
    metrics = (
        *("psnr", "psnr_median", "share_above_30", "correlation", "identified", "mse"),
        *("ssim", "column_error", "column_error_worst"),  # images; tables
    )

    recent: int = Field(
        400, ge=1, description="when models never stand still: a round so many rounds old weighs 1/e of the newest"
    )
    directions: int = Field(
        8, ge=1, description="directions in which weight gradients are summed up; memory grows with them"
    )
    matching: Literal["l2", "cosine"] = Field(
        "l2", description="how step III compares h: cosine ignores its scale, against a defence that destroys the scale"
    )
    iterations: int = Field(150, ge=1, description="step III: iterations of each descent")
    restarts: int = Field(4, ge=0, description="step III: fresh starts for each row that stalls")

    def attack(self) -> Attack[Seen]:
        """See `AttackConfig.attack`."""
        return Attack(self._arm, _observe, self._claim)

    def _arm(self, knowledge: Knowledge, rng: Rng) -> Seen:
        batches = {str(step): rows for step, rows in knowledge.need("rows").items()}
        bottom = knowledge.need("bottom")
        whole = network(bottom.config, bottom.tensors)
        name, layer = first_linear(whole, "cafe")
        if layer.bias is None:
            raise ThreatModelError(
                f"cafe needs a bottom whose first fully connected layer has a bias; here, '{name}' has none, so step I has"
                " nothing to solve"
            )
        check_reads_vectors(layers_before(whole, name), tuple(bottom.config["shape"]), "cafe")
        size = 1 + max((int(rows.max()) for rows in batches.values()), default=0)
        streams = Stream(size, self.directions), Stream(size, self.directions, memory=self.recent)
        return Seen(rng, json.dumps(dict(bottom.config)), name, batches, Stillness.of(bottom.tensors, *streams))

    def _claim(self, state: Seen, tell: Tell) -> Claim:
        regime, stream, model = state.stretches.best()
        if not len(stream):
            raise ThreatModelError("cafe saw no parameter gradient of a training step")
        found = recover(equations(stream.settled()), exact)
        values, notes = self._rows(state, model, found.h, tell)
        schedule = {int(row) for rows in state.batches.values() for row in rows}
        about: dict[str, Scalar] = {
            "regime": regime,
            "rounds": len(stream),
            "rank": found.rank,
            "rows": len(found.rows),
            "rows never sampled": len(schedule) - len(found.rows),
            "rows without gradient": found.dead,
            "unexplained share": found.residual,
        }
        if found.rank < len(found.rows):
            about["warning"] = (
                f"too few rounds: their batches have rank {found.rank}, {len(found.rows)} rows need as much"
            )
        return Claim(about="features", rows=found.rows, values=values, notes=about | notes)

    def _rows(
        self, state: Seen, model: Mapping[str, Tensor], h: Tensor, tell: Tell
    ) -> tuple[Tensor, dict[str, Scalar]]:
        """Step III: rows from the inputs h (n, d1) of the first linear layer."""
        config = json.loads(state.bottom)
        shape = tuple(config["shape"])
        before = layers_before(network(config, model), state.layer)
        if passes_features_on(before):
            return h.float().view(-1, *shape), {"step III": "none: the layer reads the features themselves"}
        settings = Inversion(iterations=self.iterations, restarts=self.restarts, matching=self.matching)
        rows, residual = invert(before, h.float(), shape, settings, state.rng.child("step III"), tell)
        return rows, {"median residual": float(residual.median()), "stalled": int((residual > settings.stalled).sum())}


def _observe(message: Message, state: Seen) -> Seen:
    if isinstance(message, ParameterGradient):
        rows, grads = state.batches[str(message.step)], message.grads
        new = Round(rows, grads[f"{state.layer}.bias"], grads[f"{state.layer}.weight"])
        return replace(state, stretches=state.stretches.add(new))
    if isinstance(message, Model):
        return replace(state, stretches=state.stretches.on(message.parameters))
    return state
