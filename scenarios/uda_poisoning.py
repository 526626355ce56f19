"""Poisoning unsupervised domain adaptation: what a few records do to a federation that learns for another domain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.errors import ConfigError, suggest
from fedsim.message import RoleId
from fedsim.metrics import classification
from fedsim.plan import Plan
from fedsim.plugins import OneOf, load
from fedsim.seeding import Rng
from fedsim.vfl.schedule import Schedule
from parties.data._pair import Pair
from parties.labels import Scoring
from parties.learners import Bench, Learner, LearnerConfig
from parties.opening import DOWN, UP, Fact, Opening, pools
from parties.vertical import Vertical


def _dann() -> LearnerConfig:
    return load("learners", LearnerConfig, {"kind": "dann"})


class UdaPoisoning(Vertical):
    """Train a vertical federation on a labelled source and an unlabelled target domain; score it on the target.

    A batch has ``batch`` rows of each domain. Target labels serve to score, and to grant them to an attacker; no learner has
    them. Poison is a wrapper under ``seats:``.
    """

    paper: ClassVar[str] = (
        "Mehra et al., Understanding the Limits of Unsupervised Domain Adaptation via Data Poisoning, 2021"
    )

    labels: Literal["server"] = Field("server", description="who holds the labels and the learner")
    data: Annotated[Pair, OneOf("data")] = Field(description="where the rows of both domains come from")
    learner: Annotated[LearnerConfig, OneOf("learners")] = Field(
        default_factory=_dann, description="how the hub learns from both domains"
    )
    trim: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="a defence: share of a batch's labelled rows, those of largest loss, that are left out",
    )
    grants: dict[RoleId, tuple[Fact, ...]] = Field(
        {}, description="what an attacker at a seat is told: labels (of the source), target_labels"
    )

    def plan(self) -> Plan:
        """See `Scenario.plan`."""
        for name in self.grants:
            if name not in self.roster():
                raise ConfigError(f"scenario.grants: no seat '{name}'{suggest(name, self.roster())}")
        return Vertical.plan(self)

    def schedule(self, rng: Rng, train: int, test: int) -> Schedule:
        """The turns; as yet without records that are entered."""
        every = self.evaluate or max(1, self.steps // 10)
        node, sets = rng.child("schedule"), pools(self.data.sizes())
        return Schedule(
            node, train, test, self.batch, self.steps, every, self.sampling, pools=sets, phases=self.learner.exchanges
        )

    def hub_model(self, labels: Tensor, classes: int, public: Rng, rng: Rng) -> Learner:
        """The learner, which does not have the labels of the target."""
        width = sum(party.embedding or self.embedding for party in self.parties.values())
        known = torch.where(torch.arange(len(labels)) < self.data.sizes().source, labels, -1)
        node, smoothing = public.child("learner"), self.label_smoothing
        return self.learner.build(
            Bench(self.top, width, classes, known, self.optimiser, smoothing, self.trim, node, rng)
        )

    def prologue(self, name: RoleId, labels: Tensor | None, public: Rng) -> Opening:
        """Grants, entered records, and what the learner has parties do to rows."""
        sizes = self.data.sizes()
        truths = {} if labels is None else {"labels": labels[: sizes.source], "target_labels": labels[sizes.source :]}
        return Opening(sizes, self.grants, truths, partial(self.learner.pretext, rng=public.child("learner")))

    def prologue_kinds(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """See `Vertical.prologue_kinds`."""
        return UP, DOWN

    def scoring(self) -> Scoring:
        """Of target rows what any classifier is scored by; accuracy on the source; how often the poison label is said."""
        return partial(_scores, self.data.sizes().held_source)


def _scores(source: int, probabilities: Tensor, labels: Tensor) -> Mapping[str, float]:
    guess, classes = probabilities.argmax(dim=1), probabilities.shape[1]
    right, next_class = guess == labels, guess == (labels + 1) % classes
    return {
        **classification(probabilities[source:], labels[source:]),
        "source_accuracy": float(right[:source].double().mean()),
        "poison_label": float(next_class[source:].double().mean()),
    }
