"""The hub of a contest: it trains a head for each candidate, then pulls candidates until one is known to be the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedsim.bandit.intervals import Array, Problem, spread
from fedsim.bandit.search import Outcome, identify
from fedsim.errors import DataError, ProtocolError, TransportLate
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.parties.arms import Contest, Pull, Reward, Truth, Yardstick
from fedsim.parties.arms.result import figures, numbers, words
from fedsim.parties.classes import LabelEncoder
from fedsim.parties.features import FeatureParty
from fedsim.vfl.absence import Sends
from fedsim.vfl.cuts import played
from fedsim.vfl.losses import Losses
from fedsim.vfl.messages import Embedding, Gradient, Rows
from fedsim.vfl.optimise import snapshot
from fedsim.vfl.schedule import Schedule, Turn
from fedsim.vfl.sound import sound
from fedsim.vfl.top import Top

LARGEST = 1e12
"""Rewards beyond this, and what is no number, count as this far off: no mean of them is endless."""


@dataclass(frozen=True)
class Found:
    """How a contest ended.

    Attributes:
        names: every candidate, in order.
        arms: the candidates that answered the pilot, in order: those that ``outcome`` counts.
        outcome: of the search; None if nobody answered.
        problem: what the search was told.
        gains: what each candidate adds over all held-out rows, by name, nats; only of those that answered to the end.
        pilot: pulls of the pilot.
    """

    names: Sequence[RoleId]
    arms: Sequence[RoleId]
    outcome: Outcome | None
    problem: Problem
    gains: Mapping[RoleId, float]
    pilot: int


class Chooser:
    """Owns the labels and chooses.

    Attributes:
        heads: a top model for each candidate, in roster order.
        held_out: the labels of the held-out rows, (n,) int64.
        schedule: the turns of the training; it holds no evaluations.
        classes: the label encoder.
        contest: what a pull is, and how they are judged.
        sends: what candidates have to send.
        own: the feature party at this seat with its own top model, which were there before; or None.
    """

    def __init__(
        self,
        heads: Mapping[RoleId, Top],
        held_out: Tensor,
        schedule: Schedule,
        classes: LabelEncoder,
        contest: Contest,
        sends: Sends,
        own: tuple[FeatureParty, Top] | None = None,
    ) -> None:
        self.heads, self.held_out, self.schedule, self.classes = heads, held_out, schedule, classes
        self.contest, self.own = contest, own
        self._sends = sends
        self._asked = dict.fromkeys(heads, 0)
        self._pulled = dict.fromkeys(heads, 0)

    async def run(self, net: Net) -> None:
        """Train the heads, hand out yardsticks, search, and hold the choice against the truth."""
        for arm, rows in (await net.gather(Rows, 0)).items():
            if rows.train != self.schedule.train:
                raise DataError(f"{arm} holds {rows.train} training rows, {net.me} holds {self.schedule.train}")
        own = self._own_first()
        await self._train(net, own[0])
        base = self._base(own[1])
        for arm, top in self.heads.items():
            head, classes = snapshot(top.network.tensors), len(self.classes.classes)
            await net.send(arm, Yardstick(0, own[1], base, self.held_out, head, classes, purpose="query"))
        found = await self._contest(net)
        net.show({"notice": words(found)})
        blind = {"chose_the_best": 1 / len(self.heads)}  # who draws one of the candidates
        net.log(step=self.schedule.steps, test=numbers(found, self.contest), baseline=blind)
        for figure in figures(found):
            net.draw(figure)

    def _own_first(self) -> tuple[Tensor, Tensor]:
        """Train what is at this seat alone; the embeddings of training and held-out rows, (N, E) and (n, E)."""
        if self.own is None:
            return torch.zeros(self.schedule.train, 0), torch.zeros(len(self.held_out), 0)
        party, top = self.own
        assert party.optimiser is not None, "the exchange is split"
        for turn in self.schedule.turns():
            party.optimiser.step(party.bottom.pull_back(top.step(turn, {"own": party.bottom.forward(turn)})["own"]))
        features = party.bottom.features
        return party.bottom.network.infer(features["train"]), party.bottom.network.infer(features["evaluate"])

    async def _train(self, net: Net, own: Tensor) -> None:
        turns = played(self.schedule, self, net)
        losses = Losses(net)
        for turn in turns:
            for arm, message in (await net.gather(Embedding, turn.step)).items():
                z = sound(message, arm, turn, {"z": self._sends(turn, arm)}).z
                await net.send(arm, Gradient(turn.step, self._step(arm, turn, own, z)))
            found = [top.loss for top in self.heads.values()]
            losses.note(turn.index, sum(found) / len(found))

    def _step(self, arm: RoleId, turn: Turn, own: Tensor, z: Tensor) -> Tensor:
        return self.heads[arm].step(turn, {"own": own.index_select(0, turn.rows), arm: z})[arm]

    def _base(self, own: Tensor) -> Tensor:
        """The loss of each held-out row without any candidate, (n,) float64: of the own model, or of class frequencies."""
        if self.own is not None:
            return functional.nll_loss(
                self.own[1].predict({"own": own}).double().log(), self.held_out, reduction="none"
            )
        labels = next(iter(self.heads.values())).labels
        counts = torch.bincount(labels, minlength=len(self.classes.classes)).double() + 1
        return -(counts / counts.sum()).log()[self.held_out]

    async def _contest(self, net: Net) -> Found:
        arms, sigma, pilot = await self._pilot(net)
        problem = Problem(max(1, len(arms)), sigma, self.contest.eps, self.contest.delta)
        outcome = await self._search(net, arms, problem) if arms else None
        silent = {arms[i] for i in outcome.dropped} if outcome else set()
        gains = await self._truths(net, [arm for arm in arms if arm not in silent])
        return Found(list(self.heads), arms, outcome, problem, gains, pilot)

    async def _pilot(self, net: Net) -> tuple[list[RoleId], float, int]:
        """Who answers, sigma, and how many pulls it took to know."""
        if self.contest.sigma is not None:
            return list(self.heads), self.contest.sigma, 0
        answers = await self._ask(net, dict.fromkeys(self.heads, self.contest.pilot))
        rewards = {arm: each for arm, each in answers.items() if each is not None}
        sigma = max(map(spread, rewards.values()), default=0.0)
        return list(rewards), max(sigma, 1 / LARGEST), sum(map(len, rewards.values()))

    async def _search(self, net: Net, arms: Sequence[RoleId], problem: Problem) -> Outcome:
        asking = identify(problem, self.contest)
        wanted = next(asking)
        while True:
            answers = await self._ask(net, {arms[i]: count for i, count in wanted.items()})
            try:
                wanted = asking.send({i: answers[arms[i]] for i in wanted})
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome

    async def _ask(self, net: Net, wanted: Mapping[RoleId, int]) -> dict[RoleId, Array | None]:
        """Rewards of so many pulls of each arm; None of one that does not answer in time."""
        for arm, count in wanted.items():
            await net.send(arm, Pull(self._asked[arm], self._pulled[arm], count, purpose="query"))
        answers = {arm: await self._answer(net, arm, count) for arm, count in wanted.items()}
        for arm, count in wanted.items():
            self._asked[arm] += 1
            self._pulled[arm] += count
        return answers

    async def _answer(self, net: Net, arm: RoleId, count: int) -> Array | None:
        try:
            reward = await net.recv(arm, Reward, self._asked[arm], self.contest.deadline)
        except TransportLate:
            net.show({"notice": f"{arm} did not answer within {self.contest.deadline:g} s and is out"})
            return None
        if tuple(reward.values.shape) != (count,):
            raise ProtocolError(f"{arm} sent rewards of shape {tuple(reward.values.shape)}, expected ({count},)")
        rewards: Array = np.nan_to_num(reward.values.double().numpy(), nan=-LARGEST)
        return rewards.clip(-LARGEST, LARGEST)

    async def _truths(self, net: Net, there: Sequence[RoleId]) -> dict[RoleId, float]:
        """End the pulls; what each party that still answers adds over all held-out rows, nats."""
        for arm in self.heads:
            await net.send(arm, Pull(self._asked[arm], self._pulled[arm], 0, purpose="query"))
        gains = {}
        for arm in there:
            with suppress(TransportLate):  # it has fallen silent since it was pulled last
                gains[arm] = (await net.recv(arm, Truth, self._asked[arm], self.contest.deadline)).gain
        return gains

    def state(self) -> Any:
        """See `fedsim.state.Lasting`; what was there before is trained again."""
        return {arm: top.state() for arm, top in self.heads.items()}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        for arm, top in self.heads.items():
            top.restore(state[arm])

    def tensors(self) -> Mapping[str, Tensor]:
        """The parameters of every head, and of the model that was there before."""
        heads = {f"head.{arm}.{k}": v for arm, top in self.heads.items() for k, v in top.network.tensors.items()}
        if self.own is None:
            return heads
        party, top = self.own
        own = {f"bottom.{k}": v for k, v in party.tensors().items()}
        return heads | own | {f"top.{k}": v for k, v in top.network.tensors.items()}

    def sidecar(self) -> Mapping[str, Any]:
        """The classes, and what the bottom at this seat needs."""
        return {"classes": self.classes.to_json(), "own": self.own[0].sidecar() if self.own else None}

    def knows(self, name: str) -> Any:
        """Nothing that an attack could be granted."""

    def describe(self) -> Mapping[str, Any]:
        """Classes, rows, parameters; and the feature party at this seat."""
        return {
            "classes": list(self.classes.classes),
            "rows": {"train": self.schedule.train, "test": len(self.held_out)},
            "parameters": sum(t.numel() for t in self.tensors().values()),
            "own": self.own[0].describe() if self.own else None,
        }
