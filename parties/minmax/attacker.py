"""The attacker: it moves images so that every domain at once takes them for something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsim.errors import DataError, ProtocolError
from fedsim.message import RoleId
from fedsim.minmax.apgda import Apgda, Found, Trying, Weighing
from fedsim.minmax.balls import Ball
from fedsim.net import Net
from fedsim.parties.minmax import Query, Response
from fedsim.parties.minmax.domains import Domains, Inputs, Models, Over, Transformations
from fedsim.parties.minmax.result import constant_numbers, figures, numbers
from fedsim.seeding import Rng
from fedsim.vfl.cuts import exchanged


@dataclass(frozen=True)
class Fared:
    """How one attack fared.

    Attributes:
        title: ball and domains, in a few words.
        names: of the domains.
        found: by the attacker.
        wrong: which of n examples each domain takes for something else, as the victims say, (K, n) bool.
    """

    title: str
    names: Sequence[str]
    found: Found
    wrong: Tensor


class Attacker:
    """Has images that no victim has seen, and asks.

    Attributes:
        x, labels: (n, C, H, W) in [0, 1] and (n,).
        victims: in roster order.
        examples: how many images are attacked, at most; only those that every domain gets right.
        over, balls, plan: what the domains are, how far images may be moved, and how domains are weighed.
        rng: public, so that every rule starts at the same place.
        constant: the accuracy on ``labels`` of always saying the commonest training class.
    """

    def __init__(
        self,
        x: Tensor,
        labels: Tensor,
        victims: Sequence[RoleId],
        examples: int,
        over: Over,
        balls: Sequence[Ball],
        plan: Weighing,
        rng: Rng,
        constant: float,
    ) -> None:
        self.constant = constant
        self.x, self.labels, self.victims, self.examples = x, labels, tuple(victims), examples
        self.over, self.balls, self.plan, self.rng = over, balls, plan, rng
        self._right: tuple[Tensor, Tensor] | None = None
        self._fared: list[Fared] = []
        self._weights: Tensor | None = None  # of rule static: what its first pass ended with
        self._trials: Apgda | None = None
        self._halfway: Any = None  # the state that the next trials go on from

    async def run(self, net: Net) -> None:
        """Find out what is right before, attack in every ball, and say how it went."""
        if net.cuts is not None:
            net.cuts.take_up(self)
        if self._right is None:
            self._right = await self._examined(net)
        right, accuracy = self._right
        x, labels = self.x[right], self.labels[right]
        attacks = [
            (domains, ball, f"{title}{ball.name}") for domains, title in self._domains(x, labels) for ball in self.balls
        ]
        for _, _, title in attacks:
            net.show({"claim": title, "done": 0.0})
        for domains, ball, title in attacks[len(self._fared) :]:
            self._fared.append(await self._fare(net, domains, ball, title))
        for victim in self.victims:
            await net.send(victim, Query(net.step, self.x[:0], self.labels[:0], False, purpose="query"))
        found = numbers(self._fared, accuracy, len(x))
        net.log(step=self.plan.iterations, test=found, baseline=constant_numbers(found, self.constant))
        for figure in figures(self._fared):
            net.draw(figure)

    async def _examined(self, net: Net) -> tuple[Tensor, Tensor]:
        """The first images that every domain gets right, and the share that each victim does, (V,)."""
        every = Models(self.x, self.labels, self.victims)
        if self.over.kind == "transformations":
            domains: Domains = Transformations(self.x, self.labels, self.over.transforms)
        else:
            domains = every
        wrong = await self._judged(net, domains, torch.zeros_like(domains.low))
        accuracy = 1 - wrong.double().mean(dim=1)
        right = (~wrong.any(dim=0)).nonzero().flatten()[: self.examples]
        if len(right) < (needed := max(self.over.groups) if self.over.kind == "inputs" else 1):
            raise DataError(
                f"{len(right)} of {len(self.x)} images are right in every domain; at least {needed} are needed"
            )
        return right, accuracy

    def _domains(self, x: Tensor, labels: Tensor) -> Iterator[tuple[Domains, str]]:
        if self.over.kind == "models":
            yield Models(x, labels, self.victims), ""
        elif self.over.kind == "transformations":
            yield Transformations(x, labels, self.over.transforms), ""
        else:
            for size in self.over.groups:
                whole = len(x) // size * size
                yield Inputs(x[:whole].view(-1, size, *x.shape[1:]), labels[:whole].view(-1, size)), f"{size} images, "

    async def _fare(self, net: Net, domains: Domains, ball: Ball, title: str) -> Fared:
        plan, rng, count = self.plan, self.rng.child(title), len(domains.names)
        start = torch.full((count,), 1 / count)
        if plan.rule == "static":
            if self._weights is None:
                minmax = Apgda(domains.low, domains.high, ball, plan.model_copy(update={"rule": "minmax"}), start, rng)
                self._weights = (await self._play(net, domains, minmax, title)).weights.mean(dim=1)
            start = self._weights
        elif plan.rule in ("prior", "without"):
            start = torch.tensor([weight(plan, name) for name in domains.names])
        trials = Apgda(domains.low, domains.high, ball, plan, start / start.sum(), rng)
        found, self._weights = await self._play(net, domains, trials, title), None
        wrong = await self._judged(net, domains, found.delta)
        return Fared(title, domains.names, found, wrong)

    async def _play(self, net: Net, domains: Domains, trials: Apgda, title: str) -> Found:
        self._trials = trials
        if self._halfway is not None:
            trials.restore(self._halfway)
            self._halfway = None
        passes, before = 1 + (self.plan.rule == "static"), self._weights is not None
        while not trials.over:
            answers = await self._ask(net, *domains.images(trials.trying), gradient=True)
            trials.told(domains.told(trials.trying, answers))
            net.show({"claim": title, "done": (before + trials.share) / passes})
            exchanged(self, net)
        return trials.found

    async def _judged(self, net: Net, domains: Domains, delta: Tensor) -> Tensor:
        """Which perturbed examples victims get wrong, by domain, (K, n) bool."""
        images = domains.images(Trying(torch.arange(len(delta)), delta))
        return domains.apart([answer.wrong for answer in await self._ask(net, *images, gradient=False)])

    async def _ask(self, net: Net, x: Tensor, labels: Tensor, gradient: bool) -> list[Response]:
        """All victims at once, in roster order."""
        for victim in self.victims:
            await net.send(victim, Query(net.step, x, labels, gradient, purpose="query"))
        answers = await net.gather(Response, net.step, self.victims)
        for victim, answer in answers.items():
            expected = x.shape if gradient else (0,)
            if answer.loss.shape != labels.shape or answer.wrong.shape != labels.shape or answer.g.shape != expected:
                raise ProtocolError(
                    f"{victim} answers with gradients of shape {tuple(answer.g.shape)}, not {tuple(expected)}"
                )
        net.step += 1
        return list(answers.values())

    def state(self) -> Any:
        """See `fedsim.state.Lasting`: what was right before, how attacks fared that are over, and how far this one is."""
        fared = []
        for each in self._fared:
            found = (each.found.delta, each.found.weights, each.found.losses, each.found.along)
            fared.append((each.title, tuple(each.names), found, each.wrong))
        trials = self._trials and self._trials.state()
        return {"right": self._right, "fared": tuple(fared), "weights": self._weights, "trials": trials}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self._right, self._weights, self._halfway = state["right"], state["weights"], state["trials"]
        self._fared = [Fared(title, names, Found(*found), wrong) for title, names, found, wrong in state["fared"]]

    def tensors(self) -> Mapping[str, Tensor]:
        """None: nothing is trained here."""
        return {}

    def sidecar(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def knows(self, name: str) -> Any:
        """Nothing that an attack could be granted."""

    def describe(self) -> Mapping[str, Any]:
        """Images, domains, and how they are weighed."""
        return {
            "holds": "images that no victim was trained on",
            "attacks": f"{len(self.victims)} model{'s' * (len(self.victims) > 1)}",
            "domains": self.over.kind,
            "rule": self.plan.rule,
            "rows": {"held-out": len(self.x)},
        }


def weight(plan: Weighing, name: str) -> float:
    """That of a domain where it stays, before all are made to sum to 1."""
    return plan.weights[name] if plan.rule == "prior" else float(name != plan.left_out)
