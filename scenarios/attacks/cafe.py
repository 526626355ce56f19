"""CAFE: catastrophic data leakage, from the parameter gradients of a bottom whose first linear layer has a bias.

For a batch S_t the gradients of that layer's bias and weight are sums over the batch, ``sum v_n`` and ``sum v_n h_n'``,
with h_n the layer's input and v_n the gradient at its output. While models stand still, N rounds of known batches
determine every v_n (step I), then every h_n (step II); step III looks for the rows whose h is that. The size of a batch
protects nobody. Labels are not needed: the v_n come from step I, and step III matches h. The paper's gradient-matching
term, the only one that labels enter, is there with ``alpha`` > 0: see `_objective`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fedsim.errors import ThreatModelError
from fedsim.message import Message, Scalar
from fedsim.scenarios.attacks._descent import Descent, iterative
from fedsim.scenarios.attacks._disclosed import (
    check_reads_vectors,
    check_trained,
    first_linear,
    layers_before,
    network,
    passes_features_on,
    updated,
)
from fedsim.scenarios.attacks._invert import Inversion, invert
from fedsim.scenarios.attacks._objective import Firsts, Objective, Whole, refine
from fedsim.scenarios.attacks._recover import answers, equations, exact, recover
from fedsim.scenarios.attacks._single import Single
from fedsim.scenarios.attacks._stillness import Stillness
from fedsim.scenarios.attacks._stream import Round, Stream
from fedsim.scenarios.attacks._tapped import Tapped
from fedsim.seeding import Rng
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge, Tell
from fedsim.vfl.messages import Gradient, Model, ParameterGradient


@dataclass(frozen=True)
class Seen:
    """What CAFE keeps of the tapped link: O(N k d1), and the bias gradients; with gradient matching, some whole rounds.

    Attributes:
        link: what passes besides parameters.
        stretches: the rounds, summed up.
        wholes: about N / B rounds of each stretch, with all gradients; None without gradient matching.
    """

    link: Tapped
    stretches: Stillness[Round, Stream]
    wholes: Stillness[Whole, Firsts] | None


class Cafe(AttackConfig):
    """Recover every training row of a party from the gradients of its parameters.

    By default steps I and II are solved exactly. With a window in which models stand still the recovery is exact (regime
    ``frozen``). Without one every round has other v and h; the rounds are then solved as if nothing had moved, recent ones
    weighing more (``training``): expect less. ``solver: iterative`` has the paper's optimisers in place of least squares: step
    I goes round by round, step II descends on the normal equations over all rounds, as their weight gradients are not kept.

    ``loop: single`` is the paper's algorithm 4: one update of v, h and the rows with each round as it comes, whether or not
    models stand still. Its result is where the updates are at the last round, so it needs many: the paper has 20,000.
    """

    paper: ClassVar[str] = "Jin et al., CAFE, NeurIPS 2021, arXiv 2110.15122, algorithms 1 to 4; solved in closed form"
    about = "features"
    needs = ("rows", "bottom")
    sees = ("ParameterGradient", "Model")
    metrics = (
        *("psnr", "psnr_median", "share_above_30", "correlation", "identified", "mse"),
        *("ssim", "column_error", "column_error_worst"),  # images; tables
    )

    solver: Literal["exact", "iterative"] = Field(
        "exact", description="steps I and II: least squares | the paper's optimisers"
    )
    loop: Literal["nested", "single"] = Field(
        "nested",
        description="nested: step after step, once the rounds are over | single: an update of each every round",
    )
    recent: int = Field(
        400, ge=1, description="when models never stand still: a round so many rounds old weighs 1/e of the newest"
    )
    directions: int = Field(
        8, ge=1, description="directions in which weight gradients are summed up; memory grows with them"
    )
    v_lr: float = Field(
        5e-3, gt=0, description="iterative: rate of step I (SGD); below 1 / rows of a batch; the default suits 40 rows"
    )
    v_iterations: int = Field(20_000, ge=1, description="iterative, nested: rounds that step I goes through")
    h_lr: float = Field(1e-2, gt=0, description="iterative: rate of step II (Adam)")
    h_iterations: int = Field(2_000, ge=1, description="iterative, nested: iterations of step II")
    matching: Literal["l2", "cosine"] = Field(
        "l2", description="how step III compares h: cosine ignores its scale, against a defence that destroys the scale"
    )
    iterations: int = Field(150, ge=1, description="step III: iterations of each descent, or passes over whole rounds")
    restarts: int = Field(4, ge=0, description="step III: fresh starts for each row that stalls")
    alpha: float = Field(0.0, ge=0, description="step III: weight of gradient matching, relative; 0: h alone decides")
    beta: float = Field(1e-5, ge=0, description="step III: weight of the total variation of images")
    gamma: float = Field(1.0, gt=0, description="step III: weight of the distance of h, relative")
    xi: float = Field(0.0, ge=0, description="step III: the total variation counts while its mean over rows is above")
    x_lr: float = Field(1e-2, gt=0, description="step III: rate of Adam with gradient matching, or in the single loop")
    labels: Literal["granted", "optimised"] = Field(
        "granted",
        description="gradient matching: dL/dz of each row, all that a label decides, is as sent | is looked for, too;"
        " without effect while alpha is 0",
    )

    @model_validator(mode="after")
    def _single_has_no_closed_form(self) -> Cafe:
        if self.loop == "single" and self.solver == "exact":
            raise ValueError("solver: found exact; loop single has no closed form and allows iterative only")
        return self

    def attack(self) -> Attack[Seen] | Attack[Single]:
        """See `AttackConfig.attack`."""
        if self.loop == "single":
            return Attack(self._arm_single, self._observe_single, self._claim_single)
        return Attack(self._arm, self._observe, self._claim)

    def _tap(self, knowledge: Knowledge, rng: Rng) -> Tapped:
        batches = {str(step): rows for step, rows in knowledge.need("rows").items()}
        bottom = knowledge.need("bottom")
        whole = network(bottom.config, bottom.tensors)
        name, layer = first_linear(whole, "cafe")
        if layer.bias is None:
            raise ThreatModelError(
                f"cafe needs a bottom whose first fully connected layer has a bias; here, '{name}' has none, so step I has"
                " nothing to solve"
            )
        check_trained(bottom.config, [f"{name}.weight", f"{name}.bias"], "cafe")
        check_reads_vectors(layers_before(whole, name), tuple(bottom.config["shape"]), "cafe")
        last = list(whole.children())[-1]
        if self._looks_for_g and (not isinstance(last, nn.Linear) or last.bias is None):
            raise ThreatModelError(
                "cafe: labels: optimised needs a bottom that ends in a fully connected layer with a bias;"
                f" here, it ends in {type(last).__name__}"
            )
        largest = max((len(rows) for rows in batches.values()), default=1)
        if self._looks_for_g:
            check_trained(bottom.config, [list(dict(whole.named_parameters()))[-1]], "cafe: labels: optimised")
        if self.solver == "iterative" and self.v_lr * largest >= 1:
            raise ThreatModelError(
                f"cafe: v_lr: found {self.v_lr}; with batches of {largest} rows step I diverges at 1 / {largest} and above"
            )
        size = 1 + max((int(rows.max()) for rows in batches.values()), default=0)
        return Tapped(rng, json.dumps(dict(bottom.config)), name, batches, size)

    def _arm(self, knowledge: Knowledge, rng: Rng) -> Seen:
        link, model = self._tap(knowledge, rng), knowledge.need("bottom").tensors
        streams = (
            Stream(link.size, self.directions),
            Stream(link.size, self.directions, memory=self.recent),
        )
        wholes: Stillness[Whole, Firsts] | None = None
        if self.alpha:
            nobody = torch.zeros(link.size, dtype=torch.bool)
            wholes = Stillness.of(model, Firsts(nobody), Firsts(nobody, keep=False))
        return Seen(link, Stillness.of(model, *streams), wholes)

    def _observe(self, message: Message, state: Seen) -> Seen:
        if isinstance(message, Gradient):
            return replace(state, link=state.link.hear(message))
        if isinstance(message, ParameterGradient):
            link, grads = state.link, message.grads
            rows = link.batches[str(message.step)]
            new = Round(rows, grads[f"{link.layer}.bias"], grads[f"{link.layer}.weight"])
            wholes = state.wholes and state.wholes.add(link.whole(message, not self._looks_for_g))
            return replace(state, stretches=state.stretches.add(new), wholes=wholes)
        if isinstance(message, Model):
            wholes = state.wholes and state.wholes.on(message)
            return replace(state, stretches=state.stretches.on(message), wholes=wholes)
        return state

    def _claim(self, state: Seen, tell: Tell) -> Claim:
        regime, stream, model = state.stretches.best()
        if not len(stream):
            raise ThreatModelError("cafe saw no parameter gradient of a training step")
        link, iterated, matched = state.link, self.solver == "iterative", self.alpha > 0
        parts = iter(_parts(tell, iterated + 1 + matched))
        solver = iterative(self._descent, link.rng.child("start"), next(parts)) if iterated else exact
        found = recover(equations(stream.settled()), solver)
        values, notes = self._rows(link, model, found.h, next(parts))
        if state.wholes is not None:
            values, more = self._refined(link, state.wholes, found.rows, found.h.float(), values, next(parts))
            notes |= more
        about: dict[str, Scalar] = {
            "regime": regime,
            "rounds": len(stream),
            "rank": found.rank,
            "rows": len(found.rows),
            "rows never sampled": link.unsampled(found.rows),
            **link.silent(found.rows[~found.alive]),
            "unexplained share": found.residual,
        }
        if found.rank < len(found.rows):
            about["warning"] = (
                f"too few rounds: their batches have rank {found.rank}, {len(found.rows)} rows need as much"
            )
        return Claim(about="features", rows=found.rows, values=values, notes=about | notes)

    def _rows(
        self, link: Tapped, model: Mapping[str, Tensor], h: Tensor, tell: Tell
    ) -> tuple[Tensor, dict[str, Scalar]]:
        """Step III: rows from the inputs h (n, d1) of the first linear layer."""
        before = layers_before(link.network(model), link.layer)
        if passes_features_on(before):
            return h.float().view(-1, *link.shape), {"step III": "none: the layer reads the features themselves"}
        settings = Inversion(
            iterations=self.iterations,
            restarts=self.restarts,
            matching=self.matching,
            gamma=self.gamma,
            variation=self.beta,
            xi=self.xi,
        )
        rows, residual = invert(before, h.float(), link.shape, settings, link.rng.child("step III"), tell)
        return rows, {"median residual": float(residual.median()), "stalled": int((residual > settings.stalled).sum())}

    def _refined(
        self, link: Tapped, wholes: Stillness[Whole, Firsts], rows: Tensor, h: Tensor, x: Tensor, tell: Tell
    ) -> tuple[Tensor, dict[str, Scalar]]:
        """Step III with gradient matching, from the rows x (n, ...) that h alone led to, unless it leads nowhere better."""
        regime, kept, model = wholes.best()
        if regime != "frozen":
            return x, {"gradient matching": "none: models never stood still"}
        rounds = [replace(each, rows=torch.searchsorted(rows, each.rows)) for each in kept.rounds]
        bottom, node = link.network(model), link.rng.child("gradient matching")
        found, before, after = refine(x, h, rounds, bottom, link.layer, self._objective, self.iterations, node, tell)
        notes: dict[str, Scalar] = {"whole rounds": len(rounds), "objective before": before, "objective after": after}
        return (found if after < before else x), notes

    def _arm_single(self, knowledge: Knowledge, rng: Rng) -> Single:
        return Single.of(self._tap(knowledge, rng), knowledge.need("bottom").tensors)

    def _observe_single(self, message: Message, state: Single) -> Single:
        if isinstance(message, Gradient):
            return replace(state, link=state.link.hear(message))
        if isinstance(message, ParameterGradient):
            seen = state.link.whole(message, granted=self.alpha > 0 and not self._looks_for_g)
            return state.add(message, seen, self._descent, self._objective)
        if isinstance(message, Model):
            return replace(state, model=updated(state.model, message))
        return state

    def _claim_single(self, state: Single, tell: Tell) -> Claim:
        if not state.rounds:
            raise ThreatModelError("cafe saw no parameter gradient of a training step")
        rows = state.h_moments.visits.nonzero().flatten()
        about: dict[str, Scalar] = {
            "rounds": state.rounds,
            "rows": len(rows),
            "rows never sampled": state.link.unsampled(rows),
            **state.link.silent(rows[~answers(state.v[rows])]),
            "unexplained share": state.unexplained,
        }
        return Claim(about="features", rows=rows, values=state.search.x[rows], notes=about)

    @property
    def _looks_for_g(self) -> bool:
        return self.alpha > 0 and self.labels == "optimised"

    @property
    def _descent(self) -> Descent:
        return Descent(self.v_lr, self.v_iterations, self.h_lr, self.h_iterations)

    @property
    def _objective(self) -> Objective:
        return Objective(self.alpha, self.beta, self.gamma, self.xi, self.matching, self.x_lr)


def _parts(tell: Tell, total: int) -> list[Tell]:
    """What tells the progress of each of so many parts."""
    return [lambda done, nth=nth: tell((nth + done) / total) for nth in range(total)]  # type: ignore[misc]
