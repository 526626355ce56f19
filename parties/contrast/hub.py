"""The server of a federation that learns before there are labels, and the party that brings them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fedsim.contrast.clusters import pseudo_labels
from fedsim.errors import ConfigError, DataError
from fedsim.message import RoleId
from fedsim.metrics import classification, count_classes, score_constant_guess
from fedsim.net import Net
from fedsim.parties.classes import LabelEncoder
from fedsim.parties.contrast import Components, Labels, Ready, Spent, rate
from fedsim.parties.contrast.assaults import Defender, sieges
from fedsim.parties.contrast.course import Course
from fedsim.parties.contrast.objective import Objective
from fedsim.parties.contrast.result import constant_numbers, figures, numbers, traffic
from fedsim.parties.contrast.tuning import Tuner
from fedsim.parties.labels import settled
from fedsim.parties.pretraining import Pretraining
from fedsim.seeding import Rng
from fedsim.vfl.cuts import stage
from fedsim.vfl.losses import Losses
from fedsim.vfl.messages import Embedding, Gradient, Rows
from fedsim.vfl.network import Network
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Turn, pass_over
from fedsim.vfl.sound import sound

Sent = dict[RoleId, Tensor]
"""By party, in roster order, what it sent."""


class Registry:
    """The label party: it has no features and says nothing before the server is ready."""

    def __init__(self, train: Tensor, held_out: Tensor, classes: LabelEncoder) -> None:
        self._labels = train, held_out
        self._classes = classes

    async def run(self, net: Net) -> None:
        """Join with the labels once pre-training is over."""
        await net.recv(net.hub, Ready, 0)
        await net.send(net.hub, Labels(0, *self._labels, json.dumps(self._classes.to_json()), purpose="query"))

    def tensors(self) -> Mapping[str, Tensor]:
        """Nothing is trained here."""
        return {}

    def sidecar(self) -> Mapping[str, Any]:
        """Nothing is needed for new rows."""
        return {}

    def knows(self, name: str) -> Any:
        """Nothing that an attack could be granted."""

    def describe(self) -> Mapping[str, Any]:
        """Classes and rows."""
        train, held_out = self._labels
        return {
            "classes": list(self._classes.classes),
            "model": "none",
            "rows": {"train": len(train), "test": len(held_out)},
        }


class Server:
    """Trains projections without labels, then the top with those that were brought, then stands attacks.

    Attributes:
        widths: of the parties' embeddings, in roster order.
        registry: who brings the labels.
        top: makes the top from the number of classes.
        rng: the server's own node.
    """

    def __init__(
        self,
        course: Course,
        widths: Mapping[RoleId, int],
        registry: RoleId,
        optimiser: OptimiserConfig,
        top: Callable[[int], Network],
        rng: Rng,
    ) -> None:
        self.course, self.widths, self.registry, self.optimiser = course, dict(widths), registry, optimiser
        self.top, self.rng, self._sent = top, rng, [0]
        self._learner: Objective | Tuner | None = None
        self._network: Network | None = None
        self._classes: LabelEncoder | None = None

    async def run(self, net: Net) -> None:
        """The three stages."""
        rows = await net.gather(Rows, 0, list(self.widths))
        first = next(iter(rows.values()))
        for party, each in rows.items():
            if (each.train, each.test) != (first.train, first.test):
                raise DataError(
                    f"{party} holds {each.train} and {each.test} rows, expected {first.train} and {first.test}"
                )
        if self.course.pretraining is not None and net.done <= self.course.before:
            await self._pretrain(self.course.pretraining, first.train, net)
        self._sent.append(sum(net.traffic.size.values()))
        await net.send(self.registry, Ready(0, purpose="query"))
        labels = await net.recv(self.registry, Labels, 0)
        if (len(labels.train), len(labels.held_out)) != (first.train, first.test):
            raise DataError(f"{self.registry} has labels of {len(labels.train)} rows, the parties have {first.train}")
        self._classes = LabelEncoder.from_json(json.loads(labels.classes))
        self._network = self.top(len(self._classes.classes))
        self._learner = tuner = Tuner(self._network, labels.train, self.course.finetuning, self.course.through)
        await self._finetune(tuner, net)
        self._sent.append(sum(net.traffic.size.values()))
        await self._examine(tuner, count_classes(labels.train, len(self._classes.classes)), labels.held_out, net)

    async def _pretrain(self, plan: Pretraining, rows: int, net: Net) -> None:
        course, through = self.course, self.course.through
        objective = Objective(plan, self.widths, rows, self.optimiser, through, self.rng.child("objective"))
        self._learner = objective
        if plan.pseudo is not None and plan.pseudo.of == "components" and not net.done:
            came = await net.gather(Components, 0, list(self.widths))
            points = {p: sound(m, p, None, {"points": (rows, None)}).points for p, m in came.items()}
            self._cluster(plan, objective, points)
        turns = stage(course.pretraining_schedule(rows), 0, self, net)
        losses = Losses(net)
        for turn in turns:
            if plan.pseudo is not None and plan.pseudo.of == "embeddings" and turn.index == course.clustered_at:
                self._cluster(plan, objective, await self._all(rows, net))
            await self._views(plan, objective, turn, net)
            losses.note(turn.index, objective.loss)

    def _cluster(self, plan: Pretraining, objective: Objective, points: Sent) -> None:
        assert plan.pseudo is not None
        joined = torch.cat(list(points.values()), dim=1)
        try:
            found = pseudo_labels(joined, plan.pseudo.sizes, self.course.public.child("clusters"))
        except ConfigError as error:
            raise ConfigError(f"scenario.pretraining.pseudo.sizes: {error}") from error
        objective.targets.copy_(found)

    async def _views(self, plan: Pretraining, objective: Objective, turn: Turn, net: Net) -> None:
        """One batch: answer the attack on some views, then step."""
        told, count = self.course.labelled(turn.index), len(turn.rows)
        share = rate(turn.index, self.course.steps, self.course.warmup)
        if not plan.attacked:
            views = _by_view(await self._hear(net), count)
            await self._tell(_flat(objective.descend(views, told, turn, share)), net, "train")
            return
        quiet = await self._hear(net)
        net.step += 1
        for left in range(self.course.threat.inner, -1, -1):
            struck = await self._hear(net)
            views = _by_view({party: torch.cat([quiet[party], z]) for party, z in struck.items()}, count)
            if left:
                await self._tell(_flat(objective.climb(views, told, turn)), net, "query")
            else:
                await self._tell(_flat(objective.descend(views, told, turn, share)), net, "train")

    async def _finetune(self, tuner: Tuner, net: Net) -> None:
        before, schedule = self.course.before, self.course.finetuning_schedule(len(tuner.labels))
        if self.course.finetuning.mode == "slf":
            everything, losses = await self._all(len(tuner.labels), net), Losses(net)
            for turn in schedule.turns():  # nobody else has a part in these
                tuner.descend({p: z[turn.rows] for p, z in everything.items()}, None, turn)
                losses.note(before + turn.index, tuner.loss)
            return
        turns = stage(schedule, before, self, net)
        losses = Losses(net)
        for turn in turns:
            await self._tune(tuner, turn, net)
            losses.note(before + turn.index, tuner.loss)

    async def _tune(self, tuner: Tuner, turn: Turn, net: Net) -> None:
        """One batch of a mode in which embeddings change."""
        plan, clean = self.course.finetuning, None
        if plan.mode == "trades":
            clean = await self._hear(net)
            net.step += 1
        for _ in range(self.course.threat.inner if plan.attacks else 0):
            await self._tell(tuner.climb(await self._hear(net), clean, turn), net, "query")
        g = tuner.descend(await self._hear(net), clean, turn)
        if plan.moves_bottoms:
            await self._tell(g, net, "train")
        else:
            net.step += 1

    async def _examine(self, tuner: Tuner, class_counts: Tensor, labels: Tensor, net: Net) -> None:
        """Score, attack, and bring it all to the report; ``class_counts`` (C,) are of the training rows."""
        course, pieces = self.course, list[Sent]()
        for _ in pass_over("evaluate", len(labels)):
            pieces.append(await self._hear(net))
            net.step += 1
        clean = {party: torch.cat([piece[party] for piece in pieces]) for party in self.widths}
        said = tuner.predict(clean)
        rows = min(len(labels), course.robustness.rows or len(labels))
        top = Defender(tuner.network, {p: z[:rows] for p, z in clean.items()}, labels[:rows], net)
        tried = sieges(list(self.widths), course.robustness, course.threat, said.shape[1])
        found = await top.withstand(tried)
        spent = await net.gather(Spent, 0, list(self.widths))
        self._sent.append(sum(net.traffic.size.values()))
        done = course.before + course.finetuning.steps
        more = numbers(found, list(self.widths))
        guessed = constant_numbers(more, float((labels[:rows] == class_counts.argmax()).double().mean()))
        net.log(
            step=done,
            test={**classification(settled(said, labels), labels), **more},
            baseline={**score_constant_guess(class_counts, labels), **guessed},
        )
        for figure in figures(found, list(self.widths), course):
            net.draw(figure)
        net.draw(traffic(self._sent, spent))

    async def _all(self, rows: int, net: Net) -> Sent:
        """Every party's embeddings of all training rows, (N, E)."""
        pieces = []
        for _ in pass_over("train", rows):
            pieces.append(await self._hear(net))
            net.step += 1
        return {party: torch.cat([piece[party] for piece in pieces]) for party in self.widths}

    async def _hear(self, net: Net) -> Sent:
        came = await net.gather(Embedding, net.step, list(self.widths))
        finite = {p: m.purpose == "train" for p, m in came.items()}
        return {p: sound(m, p, None, {"z": (None, self.widths[p])}, finite[p]).z for p, m in came.items()}

    async def _tell(self, g: Sent, net: Net, purpose: Any) -> None:
        for party, each in g.items():
            await net.send(party, Gradient(net.step, each, purpose=purpose))
        net.step += 1

    def state(self) -> Any:
        """See `fedsim.state.Lasting`: what learns in this stage, and the bytes that were sent until each stage."""
        return {"learner": self._learner and self._learner.state(), "sent": tuple(self._sent)}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        assert self._learner is not None, "a stage has begun"
        self._learner.restore(state["learner"])
        self._sent = list(state["sent"])

    def tensors(self) -> Mapping[str, Tensor]:
        """The top's parameters; none before there are labels."""
        return {f"top.{k}": v for k, v in self._network.tensors.items()} if self._network else {}

    def sidecar(self) -> Mapping[str, Any]:
        """The classes, as `fedsim.parties.predict` needs them."""
        return {"classes": self._classes.to_json() if self._classes else None, "own": None}

    def knows(self, name: str) -> Any:
        """Nothing that an attack could be granted."""

    def describe(self) -> Mapping[str, Any]:
        """The top; classes and parameters, once there are labels."""
        if self._classes is None:
            return {"model": "top"}
        parameters = sum(t.numel() for t in self.tensors().values())
        return {"model": "top", "classes": list(self._classes.classes), "parameters": parameters}


def _by_view(z: Sent, rows: int) -> Sent:
    """(V * n, E) as (V, n, E)."""
    return {party: each.view(-1, rows, each.shape[1]) for party, each in z.items()}


def _flat(g: Sent) -> Sent:
    return {party: each.flatten(0, 1) for party, each in g.items()}
