"""The label holder: the hub of a vertical federation, with the top model; it may be a feature party as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fedsim.errors import DataError, ThreatModelError
from fedsim.message import RoleId
from fedsim.metrics import classification, count_classes, score_constant_guess
from fedsim.net import Net
from fedsim.parties.encode import LabelEncoder
from fedsim.parties.features import FeatureParty, batches
from fedsim.parties.victim import judge_labels
from fedsim.seeding import Rng
from fedsim.threat import Claim, Fact, Judgement
from fedsim.vfl import shared, split
from fedsim.vfl.absence import Absences, Sends
from fedsim.vfl.cuts import played
from fedsim.vfl.messages import Rows
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Schedule, Turn
from fedsim.vfl.split import Own
from fedsim.vfl.top import HubModel

if TYPE_CHECKING:
    from fedsim.parties.vertical import Epilogue, Prologue

Scoring = Callable[[Tensor, Tensor], Mapping[str, float]]
"""From probabilities (n, C) and labels (n,) of the held-out rows to numbers by name."""
Baseline = Callable[[Tensor], Mapping[str, float]]
"""From labels (n,) of the held-out rows to what a guess that looks at no row scores, by the names of `Scoring`."""


class LabelHolder:
    """Owns the labels and trains the top.

    Attributes:
        top: the top model, or what trains it, over the labels of the training rows.
        held_out: the labels of the held-out rows, (n,) int64.
        schedule: the turns of the run.
        parties: everyone with a bottom, in roster order.
        classes: the label encoder.
        sends: what parties have to send.
        bottoms: with what to update everyone's bottom (exchange shared), or None (exchange split).
        own: the feature party at this very seat, if the labels lie at a party.
        left_out: rows of this seat's own table that not all seats have; None where all seats have the same rows.
        epilogue: what the scenario has the hub do after the training, if anything.
        appraisal: what it does after that for a model card, if anything.
        prologue: the same before the training.
        scoring: how held-out rows are scored.
        class_counts: training rows of each class, (C,), as the data have them, before anybody tampers with labels.
        baseline: how a constant guess is scored on the same rows.
        found: what was found of the federation after the training, by name, in plain values.
        models: in the exchange shared, every other party's bottom with its optimiser.
        absences: what stands in for parties that are missing.
        notices: what people should know of the labels, and of the columns at this seat.
    """

    def __init__(
        self,
        top: HubModel,
        held_out: Tensor,
        schedule: Schedule,
        parties: Sequence[RoleId],
        classes: LabelEncoder,
        sends: Sends,
        bottoms: OptimiserConfig | None,
        own: tuple[FeatureParty, Own] | None = None,
        left_out: int | None = None,
        epilogue: Epilogue | None = None,
        prologue: Prologue | None = None,
        scoring: Scoring = classification,
        appraisal: Epilogue | None = None,
        baseline: Callable[[Tensor], Baseline] | None = None,
    ) -> None:
        self.top, self.held_out, self.schedule, self.parties = top, held_out, schedule, tuple(parties)
        self.classes, self.bottoms, self.own = classes, bottoms, own
        self.left_out, self.epilogue, self.prologue, self.scoring = left_out, epilogue, prologue, scoring
        self.appraisal = appraisal
        self.class_counts = count_classes(top.labels, len(classes.classes))
        self.baseline: Baseline = (baseline or make_baseline)(self.class_counts)
        self.found: dict[str, Any] = {}
        self.notices: list[str] = []
        self.models: dict[RoleId, shared.OwnedModel] = {}
        self.absences = Absences(sends)

    async def run(self, net: Net) -> None:
        """Check that all hold the same number of rows, serve, and do what the scenario has come before and after it."""
        for notice in (*self.notices, *(self.own[0].notices if self.own else ())):
            net.show({"notice": f"{net.me}: {notice}"})
        await self._align(net)
        if self.prologue is not None:
            await self.prologue.at_hub(self, net)
        evaluation = Evaluation(self.held_out, net, self.scoring, self.baseline)
        own = self.own[1] if self.own else None
        if self.bottoms is None:
            turns = played(self.schedule, self, net)
            await split.serve(self.top, turns, net, self.parties, evaluation, self.absences, own)
        else:
            self.models = await shared.take_over(self.bottoms, net, self.parties)
            turns = played(self.schedule, self, net)
            await shared.serve(self.top, self.models, turns, net, self.parties, evaluation, self.absences, own)
        for after in (self.epilogue, self.appraisal):
            if after is not None:
                await after.at_hub(self, net)

    async def _align(self, net: Net) -> None:
        others = [party for party in self.parties if party != net.me]
        for party, rows in (await net.gather(Rows, 0, others)).items():
            if (rows.train, rows.test) != (self.schedule.train, self.schedule.test):
                raise DataError(
                    f"{party} holds {rows.train} training and {rows.test} held-out rows, "
                    f"{net.me} holds {self.schedule.train} and {self.schedule.test}"
                )

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        own = self.own and (self.own[1][0].network.state(), self.own[1][1].state())
        optimisers = {party: model.optimiser for party, model in self.models.items()}
        models = {party: (dict(each.parameters), each.state()) for party, each in optimisers.items()}
        return {"top": self.top.state(), "own": own, "models": models, "absences": self.absences.state()}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self.top.restore(state["top"])
        self.absences.restore(state["absences"])
        if self.own is not None:
            (bottom, optimiser), (network, memory) = self.own[1], state["own"]
            bottom.network.restore(network)
            optimiser.restore(memory)
        for party, model in self.models.items():
            parameters, memory = state["models"][party]
            model.optimiser.restore(memory)
            for name, tensor in model.optimiser.parameters.items():
                tensor.copy_(parameters[name])

    def tensors(self) -> Mapping[str, Tensor]:
        """Parameters and buffers of the top, and those of the bottom at this seat."""
        own = self.own[0].tensors() if self.own else {}
        return {f"top.{k}": v for k, v in self.top.network.tensors.items()} | {f"bottom.{k}": v for k, v in own.items()}

    def sidecar(self) -> Mapping[str, Any]:
        """The classes, how many training rows each has, and what the bottom at this seat needs."""
        counts = {"classes": self.classes.to_json(), "class_counts": self.class_counts.tolist()}
        return {**counts, "own": self.own[0].sidecar() if self.own else None}

    def knows(self, name: str) -> Any:
        """``rows`` as at a party; ``labels``: those of the training rows, (N,) int64."""
        if name == "rows":
            return batches(self.schedule)
        return self.top.labels.clone() if name == "labels" else None

    def describe(self) -> Mapping[str, Any]:
        """Classes, rows, parameters; the feature party at this seat; what was found after the training."""
        return {
            "classes": list(self.classes.classes),
            "rows": {"train": self.schedule.train, "test": self.schedule.test},
            "parameters": sum(p.numel() for p in self.top.network.parameters.values()),
            "own": self.own[0].describe() if self.own else None,
            **({} if self.left_out is None else {"left_out": self.left_out}),
            **({"found": dict(self.found)} if self.found else {}),
            **({"notices": list(self.notices)} if self.notices else {}),
        }

    def disclose(self, name: str) -> Fact:
        """Nothing."""
        raise ThreatModelError(f"the label holder cannot disclose '{name}'; allowed: nothing")

    def judge(self, claim: Claim, rng: Rng) -> Judgement:
        """Hold inferred labels against those of the training rows."""
        return judge_labels(self.top.labels, claim, rng)


def make_baseline(class_counts: Tensor) -> Baseline:
    """The constant guess of any classifier that has learned from so many rows of each class."""
    return partial(score_constant_guess, class_counts)


def last_evaluation(net: Net) -> tuple[dict[str, float], dict[str, float]]:
    """What the hub logged last: scores on held-out rows, and the constant guess beside them; empty before the first."""
    row = next((row for row in reversed(net.rows) if "test" in row), {})
    return dict(row.get("test", {})), dict(row.get("baseline", {}))


class Evaluation:
    """Collects the probabilities of held-out rows, turn by turn, and logs the metrics and their baseline at the last."""

    def __init__(self, labels: Tensor, net: Net, scoring: Scoring, baseline: Baseline) -> None:
        self._labels, self._net, self._scoring, self._baseline = labels, net, scoring, baseline
        self._constant: Mapping[str, float] | None = None
        self._pieces: list[Tensor] = []

    def __call__(self, turn: Turn, probabilities: Tensor) -> None:
        """Take the probabilities (B, C) of one turn."""
        self._pieces.append(probabilities)
        if turn.last:
            found = torch.cat(self._pieces)
            lost = ~torch.isfinite(found).all(dim=1)
            scores = dict(self._scoring(settled(found, self._labels), self._labels))
            more = {"share_not_finite": float(lost.double().mean())} if lost.any() else {}
            if self._constant is None:
                self._constant = self._baseline(self._labels)
            constant = {**self._constant, **dict.fromkeys(more, 0.0)}
            self._net.log(step=turn.index, test=scores | more, baseline=constant)
            self._pieces.clear()


def settled(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Probabilities (n, C) in which a row that is not finite counts as wrong: even, and nothing for its true class."""
    even = 1 - torch.nn.functional.one_hot(labels, probabilities.shape[1]).to(probabilities.dtype)
    even = even / even.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.where(torch.isfinite(probabilities).all(dim=1, keepdim=True), probabilities, even)
