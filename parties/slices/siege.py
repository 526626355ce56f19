"""The siege of a trained federation: a malicious party pushes its embeddings, the hub says what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fedsim.errors import ProtocolError
from fedsim.message import RoleId
from fedsim.minmax.apgda import Apgda, Told, Trying, Weighing
from fedsim.minmax.balls import Ball
from fedsim.net import Net
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder, last_evaluation
from fedsim.parties.slices import Felt, Pushed, Siege, Standing, Targets
from fedsim.parties.slices.court import Court
from fedsim.parties.slices.result import Fallen, constant_numbers, figures, numbers
from fedsim.parties.slices.training import box
from fedsim.seeding import Rng
from fedsim.vfl.network import gradients
from fedsim.vfl.schedule import Turn


class Besiegers:
    """The siege as the epilogue of a federation (`fedsim.parties.vertical.Epilogue`); ``rng`` is the seat's own."""

    def __init__(self, plan: Siege, parties: Sequence[RoleId], rng: Rng) -> None:
        self.plan, self.parties, self.rng = plan, tuple(parties), rng
        self.malicious = plan.seats or self.parties

    async def at_hub(self, hub: LabelHolder, net: Net) -> None:
        """Answer one malicious party after the other, and say how rows fared."""
        standing = await net.gather(Standing, 0, self.parties)
        court = Court(hub.top.network, (hub.top.labels, hub.held_out), standing, self.plan, self.rng.child("court"))
        fallen = []
        for seat in self.malicious:
            case = court.open(seat)
            await net.send(seat, Targets(0, case.rows, purpose="query"))
            step = 0
            for ball, rule in self._attacks():
                pushed = await net.recv(seat, Pushed, step)
                while not pushed.final:
                    await net.send(seat, court.feel(case, pushed))
                    step += 1
                    pushed = await net.recv(seat, Pushed, step)
                wrong, fooled = court.judge(case, pushed)
                fallen.append(Fallen(seat, ball, rule, case.rows, wrong, fooled))
                step += 1
        last, constant = last_evaluation(net)
        more = numbers(fallen, court.right)
        tried = hub.held_out[: len(court.right)]
        guessed = constant_numbers(more, float((tried == hub.class_counts.argmax()).double().mean()))
        net.log(step=hub.schedule.steps, test={**last, **more}, baseline={**constant, **guessed})
        for figure in figures(fallen, court.right):
            net.draw(figure)

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """Say where everything stands; if malicious, attack."""
        bottom, count = party.bottom, len(party.bottom.features["evaluate"])
        train = bottom.rows(Turn(0, 0, "train", torch.arange(len(bottom.features["train"]))))
        test = bottom.rows(Turn(0, 0, "evaluate", torch.arange(min(count, self.plan.rows or count))))
        await net.send(net.hub, Standing(0, bottom.network.infer(train), bottom.network.infer(test), purpose="query"))
        if net.me not in self.malicious:
            return
        rows = test[(await net.recv(net.hub, Targets, 0)).rows]
        assault, step = Assault(party, rows, net), 0
        for ball, rule in self._attacks():
            plan = self.plan.weighing.model_copy(update={"rule": rule})
            step = await assault.push(ball, plan, self.domains, self.rng.child(net.me, ball.name), step)

    @property
    def domains(self) -> int:
        """How many there are."""
        return {"records": 1, "complements": self.plan.count, "dropout": len(self.parties)}[self.plan.over]

    def _attacks(self) -> Iterator[tuple[Ball, str]]:
        for ball in self.plan.balls:
            for rule in self.plan.rules:
                yield ball, rule


class Assault:
    """A malicious party's half: ``rows`` (n, ...) of its own slice, which it moves."""

    def __init__(self, party: FeatureParty, rows: Tensor, net: Net) -> None:
        self._network, self._net, self._shape = party.bottom.network, net, rows.shape[1:]
        self._rows = rows.flatten(1)
        low, high = box(party)
        self._low, self._high = (low - self._rows).clamp_max(0), (high - self._rows).clamp_min(0)

    async def push(self, ball: Ball, plan: Weighing, domains: int, rng: Rng, step: int) -> int:
        """One attack from exchange ``step`` on; returns the next."""
        start = torch.full((domains,), 1 / domains)
        trials = Apgda(self._low, self._high, ball, plan, start, rng)
        while not trials.over:
            trials.told(await self._felt(trials.trying, step))
            step += 1
        every = Trying(torch.arange(len(self._rows)), trials.found.delta)
        z = self._network.infer(self._moved(every))
        await self._net.send(self._net.hub, Pushed(step, z, every.rows, True, purpose="query"))
        return step + 1

    async def _felt(self, trying: Trying, step: int) -> Told:
        """Margins in every domain, and their gradients pulled back through the bottom."""
        moved = self._moved(trying).requires_grad_()
        z = self._network.train(moved, Turn(step, 0, "query", trying.rows, quiet=True))
        await self._net.send(self._net.hub, Pushed(step, z.detach(), trying.rows, False, purpose="query"))
        answer = await self._net.recv(self._net.hub, Felt, step)
        if answer.g.shape[1:] != z.shape or answer.margins.shape != answer.g.shape[:2]:
            raise ProtocolError(
                f"{self._net.hub} answers with gradients of shape {tuple(answer.g.shape)} to {tuple(z.shape)}"
            )
        pulled = [gradients(z, [moved], g, keep_graph=True)[0].flatten(1) for g in answer.g]
        return Told(answer.margins, torch.stack(pulled))

    def _moved(self, trying: Trying) -> Tensor:
        return (self._rows[trying.rows] + trying.delta).view(-1, *self._shape)
