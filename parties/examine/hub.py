"""The hub's half of the examination: certificates, answers to what parties try, and its own weights."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.errors import ProtocolError
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.parties.examine import CEILING, Answer, Examination, Found, Goal, Radii, Reach, Settled, Tried
from fedsim.parties.examine.party import ROUNDS, reach, settled, subject_of
from fedsim.parties.examine.weights import Climb, Findings, Subject, examine
from fedsim.seeding import Rng
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.bounds import FORMS, Bisection, Form, holds, margins
from fedsim.vfl.network import Network, gradients

ALL, TOP = "all seats", "top model"
"""Whose weights move, besides single parties."""


@dataclass(frozen=True)
class Examined:
    """What was found.

    Attributes:
        labels: of the examined rows, (n,).
        predicted: with the weights in use, (n,).
        train_accuracy: over all training rows.
        together: the lowest accuracy at each radius if all weights move, (K,).
        certified: by form, and by whose weights move, the radius up to which no change flips the row, (n,).
        alone: by whose weights move, what was found there.
    """

    labels: Tensor
    predicted: Tensor
    train_accuracy: float
    together: Tensor
    certified: Mapping[Form, Mapping[str, Tensor]]
    alone: Mapping[str, Findings]


class Oracle:
    """The top model over the embeddings of the examined rows, all as they are in use.

    Attributes:
        top: over the joined embeddings (n, E).
        clean: by party, in roster order, (n, E).
        labels, predicted: (n,).
    """

    def __init__(self, top: Network, clean: Mapping[RoleId, Tensor], labels: Tensor) -> None:
        self.clean, self.labels = dict(clean), labels
        self.top = Subject.of(top, torch.cat(list(clean.values()), dim=1))
        with torch.no_grad():
            self.logits = self.top.run(self.top.weights)
        self.predicted = self.logits.argmax(dim=1)

    def answer(self, who: str, outputs: Tensor, goal: Goal) -> Answer:
        """What becomes of outputs (V, n, E) of one party, or of the top itself.

        Raises:
            ProtocolError: they have another shape.
        """
        expected = self.logits.shape if who == TOP else self.clean[who].shape
        if outputs.shape[1:] != expected:
            raise ProtocolError(
                f"{who} tries outputs of shape {tuple(outputs.shape)}, expected (V, *{tuple(expected)})"
            )
        outputs = outputs.detach().requires_grad_()
        logits = outputs if who == TOP else self._through_top(who, outputs)
        with torch.no_grad():
            wild = ~torch.isfinite(logits).all(dim=2)
            guess = torch.where(wild, -1, logits.argmax(dim=2))
            accuracy = (guess == self.labels).double().mean(dim=1)
        g = torch.empty(0)
        if goal != "none":
            g = gradients(self._goal(logits, goal), [outputs])[0]
        return Answer(0, accuracy, guess != self.predicted, g, purpose="query")

    def _through_top(self, who: str, outputs: Tensor) -> Tensor:
        count = len(outputs)
        parts = [outputs if p == who else z.expand(count, *z.shape) for p, z in self.clean.items()]
        joined = torch.cat(parts, dim=2)
        return self.top.run(self.top.weights, joined.flatten(0, 1)).view(count, len(self.labels), -1)

    def _goal(self, logits: Tensor, goal: Goal) -> Tensor:
        if goal == "loss":
            return functional.cross_entropy(logits.flatten(0, 1), self.labels.repeat(len(logits)))
        own = functional.one_hot(self.predicted, logits.shape[2]) == 1
        rival = logits.masked_fill(own, -torch.inf).amax(dim=2)
        return (rival - (logits * own).sum(dim=2)).sum()


async def at_hub(
    top: Network,
    labels: tuple[Tensor, Tensor],
    parties: Sequence[RoleId],
    own: Bottom | None,
    plan: Examination,
    net: Net,
    rng: Rng,
) -> Examined:
    """Everything; ``labels`` are those of the training and of the held-out rows."""
    subject = None if own is None else subject_of(own, plan)
    train, test = {}, {}
    for party in parties:
        if own is not None and subject is not None and party == net.me:
            train[party], test[party] = settled(own, subject)
        else:
            there = await net.recv(party, Settled, 0)
            train[party], test[party] = there.train, there.test
    truth = labels[1][: len(next(iter(test.values())))]
    oracle = Oracle(top, test, truth)
    with torch.no_grad():
        guess = oracle.top.run(oracle.top.weights, torch.cat(list(train.values()), dim=1)).argmax(dim=1)
    desk = Desk(oracle, plan, net, rng, subject)
    certified = await desk.certify()
    together = [await desk.together(eps, i) for i, eps in enumerate(plan.radii)]
    alone = {party: await desk.alone(party) for party in parties}
    alone[TOP] = await examine(oracle.top, plan, rng.child("top"), desk.asking(TOP))
    trained = float((guess == labels[0]).double().mean())
    return Examined(truth, oracle.predicted, trained, torch.tensor(together, dtype=torch.float64), certified, alone)


class Desk:
    """Where the hub answers, one party after the other; a party at its own seat, ``own``, needs no messages."""

    def __init__(self, oracle: Oracle, plan: Examination, net: Net, rng: Rng, own: Subject | None) -> None:
        self._oracle, self._plan, self._net, self._rng, self._own = oracle, plan, net, rng, own
        self._others = [party for party in oracle.clean if party != net.me]
        self._steps = dict.fromkeys(self._others, 0)

    def asking(self, who: str) -> _Asking:
        """What a seat's own search asks, where it is answered at once."""
        return _Asking(self._oracle, who)

    async def certify(self) -> dict[Form, dict[str, Tensor]]:
        """By form and by whose weights move, the certified radius of each row, (n,) float64."""
        whose, found = [*self._oracle.clean, TOP, ALL], dict[Form, dict[str, Tensor]]()
        for i, form in enumerate(FORMS):
            searches = {who: Bisection(len(self._oracle.labels), 1e-8, CEILING, ROUNDS) for who in whose}
            for round_ in range(i * ROUNDS, (i + 1) * ROUNDS):
                reaches = await self._reaches(searches, round_)
                for who, search in searches.items():
                    search.told(self._holds(who, search.asked(), reaches, form))
            found[form] = {who: search.found for who, search in searches.items()}
        return found

    async def _reaches(self, searches: Mapping[str, Bisection], round_: int) -> dict[RoleId, tuple[Tensor, Tensor]]:
        """By party, how far its embeddings move alone and together with all others."""
        together = searches[ALL].asked()
        for party in self._others:
            await self._net.send(party, Radii(round_, searches[party].asked(), together, purpose="query"))
        found = {}
        for party in self._oracle.clean:
            if self._own is not None and party == self._net.me:
                found[party] = reach(self._own, searches[party].asked(), together, round_)
            else:
                there = await self._net.recv(party, Reach, round_)
                found[party] = (there.alone, there.together)
        return found

    def _holds(self, who: str, radii: Tensor, reaches: Mapping[RoleId, tuple[Tensor, Tensor]], form: Form) -> Tensor:
        e = [both[1] if who == ALL else both[0] * (who == party) for party, both in reaches.items()]
        joined = torch.cat(e, dim=1) if form == "entrywise" else torch.stack(e).amax(dim=0)
        top = self._oracle.top
        module = top.in_double()
        eps = radii if who in (TOP, ALL) else torch.zeros_like(radii)
        with torch.no_grad():
            logits, fall = margins(module, top.rows.double(), self._oracle.predicted, eps, joined, form)
        return holds(logits, fall, self._oracle.predicted)

    async def together(self, eps: float, nth: int) -> float:
        """The lowest accuracy while every seat climbs in the loss over all rows, the top too."""
        top, lowest = Climb(self._oracle.top.weights, eps, self._rng.child("together top", nth)), 1.0
        own = None if self._own is None else Climb(self._own.weights, eps, self._rng.child("together own", nth))
        for left in range(self._plan.steps, -1, -1):
            outputs = {party: await self._tried(party, own) for party in self._oracle.clean}
            joined = {party: z.detach().requires_grad_() for party, z in outputs.items()}
            logits = self._oracle.top.run(top.weights(), torch.cat(list(joined.values()), dim=1))
            accuracy = (logits.argmax(dim=1) == self._oracle.labels).double().mean()
            lowest = min(lowest, float(accuracy))
            loss = functional.cross_entropy(logits, self._oracle.labels)
            grads = gradients(loss, [*joined.values(), *top.live.values()])
            for party, g in zip(joined, grads, strict=False):
                await self._told(party, g, accuracy, own, outputs[party] if left else None)
            if left:
                top.move(grads[len(joined) :])
        return lowest

    async def _tried(self, party: RoleId, own: Climb | None) -> Tensor:
        if self._own is not None and own is not None and party == self._net.me:
            return self._own.run(own.weights())
        z = (await self._net.recv(party, Tried, self._steps[party])).z
        if z.shape[1:] != self._oracle.clean[party].shape or len(z) != 1:
            raise ProtocolError(f"{party} tries outputs of shape {tuple(z.shape)} where all seats climb")
        return z[0]

    async def _told(self, party: RoleId, g: Tensor, accuracy: Tensor, own: Climb | None, output: Tensor | None) -> None:
        if own is not None and party == self._net.me:
            if output is not None:
                own.move(gradients(output, list(own.live.values()), g))
            return
        changed = torch.zeros(1, len(g), dtype=torch.bool)
        await self._net.send(party, Answer(self._steps[party], accuracy[None], changed, g[None], purpose="query"))
        self._steps[party] += 1

    async def alone(self, party: RoleId) -> Findings:
        """Answer one party until it has found what it looks for."""
        if self._own is not None and party == self._net.me:
            return await examine(self._own, self._plan, self._rng.child("own"), self.asking(party))
        while True:
            step = self._steps[party]
            tried = await self._net.recv(party, Tried, step)
            over = tried.z.shape[1] == 0
            z = self._oracle.clean[party][None] if over else tried.z
            found = self._oracle.answer(party, z, "none" if over else _goal(tried.goal))
            await self._net.send(party, Answer(step, found.accuracy, found.changed, found.g, purpose="query"))
            self._steps[party] += 1
            if over:
                return Findings.of(await self._net.recv(party, Found, 0))
            await asyncio.sleep(0)


class _Asking:
    """Answers at once; called as what asks over the network is."""

    def __init__(self, oracle: Oracle, who: str) -> None:
        self._oracle, self._who = oracle, who

    async def __call__(self, outputs: Tensor, goal: Goal) -> Answer:
        """What becomes of these outputs."""
        return self._oracle.answer(self._who, outputs, goal)


def _goal(name: str) -> Goal:
    goals: dict[str, Goal] = {"loss": "loss", "flip": "flip", "none": "none"}
    if name not in goals:
        raise ProtocolError(f"a party asks for the gradient of '{name:.40}'; allowed: {', '.join(goals)}")
    return goals[name]
