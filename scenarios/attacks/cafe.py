"""CAFE: catastrophic data leakage, from the parameter gradients of a bottom whose first linear layer has a bias.

For a batch S_t the gradients of that layer's bias and weight are sums over the batch, ``sum v_n`` and ``sum v_n h_n'``,
with h_n the layer's input and v_n the gradient at its output. While models stand still, N rounds of known batches
determine every v_n (step I), then every h_n (step II); step III looks for the rows whose h is that. The size of a batch
protects nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fedsim.errors import ThreatModelError
from fedsim.message import Message
from fedsim.seeding import Rng
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge, Tell
from fedsim.vfl.messages import Model, ParameterGradient
from scenarios.attacks._disclosed import equal, layers_before, network
from scenarios.attacks._invert import Inversion, invert


@dataclass(frozen=True)
class Round:
    """One training step: who was in the batch, and the gradients of the first linear layer, (d2,) and (d2, d1).

    Rounds of one generation were computed on one and the same model; a round that moved the model has its own.
    """

    generation: int
    rows: Tensor
    bias: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Seen:
    """What CAFE keeps of the tapped link.

    Attributes:
        rng: the attacker's node.
        bottom: the victim's architecture, as JSON.
        layer: the name of its first linear layer.
        model: the victim's parameters in the present generation (the same until a model comes that differs).
        still: those of the longest generation so far, once it has passed.
        generation: how often the model has moved.
        batches: the rows of each training step, by step.
        rounds: the steps that are kept.
    """

    rng: Rng
    bottom: str
    layer: str
    model: Mapping[str, Tensor]
    batches: Mapping[str, Tensor]
    still: Mapping[str, Tensor] = field(default_factory=dict)
    generation: int = 0
    rounds: tuple[Round, ...] = ()


class Cafe(AttackConfig):
    """Recover every training row of a party from the gradients of its parameters (steps I and II solved exactly).

    With a window in which models stand still the recovery is exact. Without one every round has other v and h; the last
    ``recent`` rounds are then solved as if they had not moved: expect less.
    """

    paper: ClassVar[str] = "Jin et al., CAFE, NeurIPS 2021, arXiv 2110.15122, algorithms 1 to 3; solved in closed form"
    about = "features"
    needs = ("rows", "bottom")
    sees = ("ParameterGradient", "Model")
    metrics = (
        *("psnr", "psnr_median", "share_above_30", "correlation", "identified", "mse"),
        *("ssim", "column_error", "column_error_worst"),  # images; tables
    )

    recent: int = Field(400, ge=1, description="rounds to use when models never stand still")
    matching: Literal["l2", "cosine"] = Field(
        "l2", description="how step III compares h: cosine ignores its scale, against a defence that destroys the scale"
    )
    iterations: int = Field(150, ge=1, description="step III: iterations of each descent")
    restarts: int = Field(4, ge=0, description="step III: fresh starts for each row that stalls")

    def attack(self) -> Attack[Seen]:
        """See `AttackConfig.attack`."""
        return Attack(_arm, self._observe, self._claim)

    def _observe(self, message: Message, state: Seen) -> Seen:
        if isinstance(message, ParameterGradient):
            grads = message.grads
            rows = state.batches[str(message.step)]
            new = Round(state.generation, rows, grads[f"{state.layer}.bias"], grads[f"{state.layer}.weight"])
            return replace(state, rounds=self._kept((*state.rounds, new)))
        if isinstance(message, Model) and not equal(message.parameters, state.model):
            still = state.model if _largest(state.rounds)[0] == state.generation else state.still
            # the round that moved the model was no still one: its party may have used dropout or augmentation
            rounds = (*state.rounds[:-1], *(replace(r, generation=-state.generation - 1) for r in state.rounds[-1:]))
            return replace(state, rounds=rounds, model=message.parameters, still=still, generation=state.generation + 1)
        return state

    def _kept(self, rounds: tuple[Round, ...]) -> tuple[Round, ...]:
        """The rounds of the longest stillness and of the present; if models never stood still, the most recent ones."""
        longest, length = _largest(rounds)
        if length == 1:
            return rounds[-self.recent :]
        return tuple(r for r in rounds if r.generation in (longest, rounds[-1].generation))

    def _claim(self, state: Seen, tell: Tell) -> Claim:
        longest, length = _largest(state.rounds)
        frozen = length > 1
        rounds = [r for r in state.rounds if r.generation == longest or not frozen]
        if not rounds:
            raise ThreatModelError("cafe saw no parameter gradient of a training step")
        rows = torch.tensor(sorted({int(row) for r in rounds for row in r.rows}))
        v, h, rank = recover_inputs(rounds, rows)
        dead = int((v.norm(dim=1) <= 1e-6 * v.norm(dim=1).median()).sum())
        model = state.model if longest == state.generation or not frozen else state.still
        values, notes = self._rows(state, model, h, tell)
        found: dict[str, bool | int | float | str] = {
            "regime": "frozen" if frozen else "training",
            "rounds": len(rounds),
            "rank": rank,
            "rows": len(rows),
            "rows without gradient": dead,
        }
        if rank < len(rows):
            found["warning"] = f"too few rounds: their batches have rank {rank}, {len(rows)} rows need as much"
        return Claim(about="features", rows=rows, values=values, notes=found | notes)

    def _rows(
        self, state: Seen, model: Mapping[str, Tensor], h: Tensor, tell: Tell
    ) -> tuple[Tensor, dict[str, bool | int | float | str]]:
        """Step III: rows from the inputs h (n, d1) of the first linear layer."""
        config = json.loads(state.bottom)
        shape = tuple(config["shape"])
        before = layers_before(network(config, model), state.layer)
        if not any(True for _ in before.parameters()):
            return h.float().view(-1, *shape), {"step III": "none: the layer reads the features themselves"}
        settings = Inversion(iterations=self.iterations, restarts=self.restarts, matching=self.matching)
        rows, residual = invert(before, h.float(), shape, settings, state.rng.child("step III"), tell)
        return rows, {"median residual": float(residual.median()), "stalled": int((residual > settings.stalled).sum())}


def recover_inputs(rounds: list[Round], rows: Tensor) -> tuple[Tensor, Tensor, int]:
    """Steps I and II by least squares in float64.

    Step I solves ``A V = B`` with A (T, n) the membership of rows in batches, divided by the size of the batch (the loss is
    a mean), and B (T, d2) the bias gradients. Step II solves ``sum_t |dL/dW1(t) - sum_n A[t,n] v_n h_n'|^2``, whose normal
    matrix is (A'A) * (VV'): it is regular if no v_n vanishes and rank A = n.

    Returns:
        v (n, d2), h (n, d1) and the rank of A. Rows with vanishing v have h = 0.
    """
    member = torch.stack([torch.isin(rows, r.rows).double() / len(r.rows) for r in rounds])
    v = torch.linalg.lstsq(member, torch.stack([r.bias for r in rounds]).double(), driver="gelsd").solution
    size = v.norm(dim=1, keepdim=True)
    alive = size > 1e-6 * size.median().clamp_min(1e-300)
    unit = torch.where(alive, v / size.clamp_min(1e-300), torch.zeros(()).double())
    right = torch.zeros(len(rows), rounds[0].weight.shape[1], dtype=torch.float64)
    for r, weights in zip(rounds, member, strict=True):  # one round at a time: never a copy of all gradients in float64
        inside = weights.nonzero().flatten()
        right[inside] += weights[inside, None] * (unit[inside] @ r.weight.double())
    normal = (member.T @ member) * (unit @ unit.T)
    h = torch.linalg.lstsq(normal, right, driver="gelsd").solution / size.clamp_min(1e-300)
    return v, torch.where(alive, h, torch.zeros(()).double()), int(torch.linalg.matrix_rank(member))


def _arm(knowledge: Knowledge, rng: Rng) -> Seen:
    batches = {str(step): rows for step, rows in knowledge.need("rows").items()}
    bottom = knowledge.need("bottom")
    layer = _first_linear(network(bottom.config, bottom.tensors))
    return Seen(rng, json.dumps(dict(bottom.config)), layer, bottom.tensors, batches)


def _first_linear(bottom: nn.Sequential) -> str:
    for name, layer in bottom.named_children():
        if isinstance(layer, nn.Linear):
            if layer.bias is None:
                break
            return name
    raise ThreatModelError("cafe needs a bottom whose first fully connected layer has a bias; this one has none")


def _largest(rounds: tuple[Round, ...]) -> tuple[int, int]:
    """The generation with the most rounds, and how many."""
    counts: dict[int, int] = {}
    for r in rounds:
        counts[r.generation] = counts.get(r.generation, 0) + 1
    return max(counts.items(), key=lambda item: item[1], default=(0, 0))
