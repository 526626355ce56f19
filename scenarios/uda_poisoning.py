"""Poisoning unsupervised domain adaptation: what a few records do to a federation that learns for another domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.errors import ConfigError, suggest
from fedsim.message import RoleId
from fedsim.metrics import classification, score_constant_guess
from fedsim.parties.bound import Domain, Drawn, bound
from fedsim.parties.data._pair import Pair
from fedsim.parties.labels import Baseline, Scoring
from fedsim.parties.learners import Bench, Learner, LearnerConfig
from fedsim.parties.opening import Fact, Opening, kinds, pools
from fedsim.parties.rehearsal import Rehearsal
from fedsim.parties.screening import Screen
from fedsim.parties.vertical import Vertical, build_bottom
from fedsim.plan import Plan
from fedsim.plugins import OneOf, load
from fedsim.seeding import Rng
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.schedule import Schedule
from fedsim.vfl.top import HubModel


def _dann() -> LearnerConfig:
    return load("learners", LearnerConfig, {"kind": "dann"})


class UdaPoisoning(Vertical):
    """Train a vertical federation on a labelled source and an unlabelled target domain; score it on the target.

    A batch has ``batch`` rows of each domain. Target labels serve to score, and to grant them to an attacker; no learner has
    them. Poison is a wrapper under ``seats:``.
    """

    resumes: ClassVar[bool] = True
    misses: ClassVar[bool] = True
    uncarded: ClassVar[str] = "it trains for two domains, a model card is of one"
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
    knn: int = Field(
        0,
        ge=0,
        description="a defence: rows labelled unlike most of so many nearest labelled ones are left out; 0: none",
    )
    cap: float | None = Field(
        None,
        gt=0,
        description="a defence: no labelled row pulls at its logits by more than this (2-norm, at most 1.41)",
    )
    grants: dict[RoleId, tuple[Fact, ...]] = Field(
        {},
        description="what an attacker at a seat is told: labels (of the source), target_labels, pseudo_labels, slices",
    )

    def count_steps_per_epoch(self) -> int | None:
        """None: the rows of either domain are drawn by themselves."""
        return None

    def plan(self) -> Plan:
        """See `Scenario.plan`."""
        for name, facts in self.grants.items():
            if name not in self.roster():
                raise ConfigError(f"scenario.grants: no seat '{name}'{suggest(name, self.roster())}")
            if "slices" in facts and name != self.labels:
                raise ConfigError(f"scenario.grants: slices can be granted to {self.labels} only; found {name}")
        plan = Vertical.plan(self)
        seats = {name: replace(seat, told=self.grants.get(name, ())) for name, seat in plan.seats.items()}
        return replace(plan, seats=seats)

    def schedule(self, rng: Rng, train: int, test: int) -> Schedule:
        """The turns; as yet without records that are entered."""
        every = self.evaluate or max(1, self.steps // 10)
        node, sets = rng.child("schedule"), pools(self.data.sizes())
        return Schedule(
            node, train, test, self.batch, self.steps, every, self.sampling, pools=sets, phases=self.learner.exchanges
        )

    def hub_model(self, labels: Tensor, classes: int, public: Rng, rng: Rng) -> Learner:
        """The learner, which does not have the labels of the target.

        Raises:
            ConfigError: a defence could never act.
        """
        width = sum(map(self.width, self.feature_parties()))
        known = torch.where(torch.arange(len(labels)) < self.data.sizes().source, labels, -1)
        self._check_defences(self.data.sizes().source)
        screen = Screen(self.trim, self.knn, self.cap)
        node, smoothing = public.child("learner"), self.label_smoothing
        return self.learner.build(Bench(self.top, width, classes, known, self.optimiser, smoothing, screen, node, rng))

    def _check_defences(self, source: int) -> None:
        """Refuse what would leave out no row, of so many of the source."""
        seen = min(source, self.steps * self.batch)
        if self.knn >= seen:
            raise ConfigError(
                f"scenario.knn: {self.knn} nearest of {seen} labelled rows; expected fewer than there are"
            )
        if self.trim and not round(self.trim * self.batch):
            raise ConfigError(
                f"scenario.trim: {self.trim:g} of a batch of {self.batch} rounds to no row; expected more"
            )

    def prologue(self, name: RoleId, labels: Tensor | None, public: Rng) -> Opening:
        """Grants, entered records, and what the learner has parties do to rows."""
        sizes = self.data.sizes()
        truths = {} if labels is None else {"labels": labels[: sizes.source], "target_labels": labels[sizes.source :]}
        pretext = partial(self.learner.pretext, rng=public.child("learner"))
        return Opening(sizes, self.grants, truths, pretext, self.rehearsal, public.child("rehearsal"))

    def rehearsal(self, train: Mapping[RoleId, Tensor], labels: Tensor, rng: Rng) -> Rehearsal:
        """See `fedsim.parties.rehearsal.Rehearse`."""
        sizes, known = self.data.sizes(), self.data.sizes().source + self.data.sizes().target
        learner = self.hub_model(labels[:known], int(labels.max()) + 1, rng, rng.child("hub"))
        learner.labels = labels
        bottoms, optimisers = {}, []
        for party, rows in train.items():
            network = build_bottom(self.architecture(party, tuple(rows.shape[1:])), rng.child("bottom", party))
            bottoms[party] = Bottom(network, {"train": rows})
            bottoms[party].distortions.append(partial(self.learner.pretext, rng=rng.child("learner")))
            optimisers.append(self.optimiser.build(network.trained))
        schedule = replace(
            self.schedule(rng, known, 0), train=len(labels), pools=pools(sizes, len(labels) - known), every=self.steps
        )
        return Rehearsal(learner, bottoms, optimisers, schedule)

    def prologue_kinds(self, party: RoleId) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """See `Vertical.prologue_kinds`."""
        return kinds(self.grants, party)

    def scoring(self, top: HubModel) -> Scoring:
        """Of target rows what any classifier is scored by; accuracy on the source; the poison label; the bound."""
        assert isinstance(top, Learner)
        return partial(_scores, top, self.data.sizes().held_source)

    def baseline(self, class_counts: Tensor) -> Baseline:
        """The constant guess of one who knows the labels of the source only."""
        return partial(_constant_scores, class_counts, self.data.sizes().held_source)

    def epilogue(self, rng: Rng) -> Drawn:
        """The figure of the bound."""
        return Drawn()


def _scores(learner: Learner, source: int, probabilities: Tensor, labels: Tensor) -> Mapping[str, float]:
    guess, classes = probabilities.argmax(dim=1), probabilities.shape[1]
    right, next_class = guess == labels, guess == (labels + 1) % classes
    z, accuracy = torch.cat(learner.judged), float(right[:source].double().mean())
    learner.judged.clear()
    domains = Domain(z[:source], labels[:source]), Domain(z[source:], labels[source:])
    return {
        **classification(probabilities[source:], labels[source:]),
        "source_accuracy": accuracy,
        "poison_label": float(next_class[source:].double().mean()),
        **bound(*domains, 1 - accuracy, classes),
        **_weights(learner),
    }


def _constant_scores(class_counts: Tensor, source: int, labels: Tensor) -> Mapping[str, float]:
    guess, classes = class_counts.argmax(), len(class_counts)
    return {
        **score_constant_guess(class_counts, labels[source:]),
        "source_accuracy": float((labels[:source] == guess).double().mean()),
        "poison_label": float(((labels[source:] + 1) % classes == guess).double().mean()),
    }


def _weights(learner: Learner) -> Mapping[str, float]:
    """With a defence: at which rows of the source count, and those that were entered."""
    found = learner.screening.weights
    if not len(found):
        return {}
    unlabelled = torch.nonzero(learner.labels < 0).flatten()
    begin, end = int(unlabelled[0]), int(unlabelled[-1]) + 1
    parts = {"source_weight": found[:begin], "entered_weight": found[end:]}
    return {name: float(part.nanmean()) for name, part in parts.items() if len(part)}
