"""A party's half of the three stages: it shows embeddings of its slice and moves its rows or its bottom by what comes back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fedsim.contrast.balls import Ball
from fedsim.contrast.clusters import components
from fedsim.contrast.views import high_pass
from fedsim.message import Purpose
from fedsim.net import Net
from fedsim.parties.contrast import Components, Spent, rate
from fedsim.parties.contrast.assaults import besieged
from fedsim.parties.contrast.course import Course
from fedsim.parties.features import FeatureParty
from fedsim.parties.pretraining import Pretraining
from fedsim.seeding import Rng
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.cuts import stage
from fedsim.vfl.messages import Embedding, Gradient
from fedsim.vfl.network import Network, gradients
from fedsim.vfl.optimise import Optimiser
from fedsim.vfl.schedule import Turn, pass_over
from fedsim.vfl.sound import healthy, sound


class Line:
    """A party's end of the conversation; both ends count what was shown, in `Net.step`."""

    def __init__(self, net: Net) -> None:
        self._net = net

    async def show(self, z: Tensor, purpose: Purpose = "query") -> None:
        """Send an embedding that no gradient comes back for."""
        message = Embedding(self._net.step, z.detach(), purpose=purpose)
        await self._net.send(self._net.hub, healthy(message, self._net.me, None))
        self._net.step += 1

    async def ask(self, z: Tensor, purpose: Purpose = "query", shown: int = 0) -> Tensor:
        """Send an embedding, and get the gradient of what it is for; before it stands that of ``shown`` rows shown earlier."""
        message = Embedding(self._net.step, z.detach(), purpose=purpose)
        await self._net.send(self._net.hub, healthy(message, self._net.me, None))
        answer = await self._net.recv(self._net.hub, Gradient, self._net.step)
        self._net.step += 1
        return sound(answer, self._net.hub, None, {"g": (shown + len(z), z.shape[1])}).g


@dataclass
class Standing:
    """What training changes at a party (`fedsim.state.Lasting`).

    Attributes:
        network: of the bottom.
        optimiser: what updates it in this stage, if it learns.
        spent: bytes sent until each stage.
    """

    network: Network
    optimiser: Optimiser | None
    spent: list[int]

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        memory = self.optimiser and self.optimiser.state()
        return {"bottom": self.network.state(), "optimiser": memory, "spent": tuple(self.spent)}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self.network.restore(state["bottom"])
        if self.optimiser is not None:
            self.optimiser.restore(state["optimiser"])
        self.spent = list(state["spent"])


class Slice:
    """What a party does; ``rng`` is its own node, for where attacks start."""

    def __init__(self, course: Course, rng: Rng) -> None:
        self.course, self.rng = course, rng

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """Pre-train, fine-tune, be attacked."""
        line, bottom = Line(net), party.bottom
        standing = Standing(bottom.network, party.optimiser, [0])
        if self.course.pretraining is not None and net.done <= self.course.before:
            await self._pretrain(self.course.pretraining, bottom, standing, line, net)
        standing.spent.append(sum(net.traffic.size.values()))
        await self._finetune(bottom, standing, line, net)
        standing.spent.append(sum(net.traffic.size.values()))
        for turn in pass_over("evaluate", len(bottom.features["evaluate"])):
            await line.show(bottom.network.infer(bottom.rows(turn)), "evaluate")
        await besieged(bottom, self.course, net, self.rng.child("robustness"))
        standing.spent.append(sum(net.traffic.size.values()))
        await net.send(net.hub, Spent(0, *(b - a for a, b in pairwise(standing.spent)), purpose="query"))

    async def _pretrain(self, plan: Pretraining, bottom: Bottom, standing: Standing, line: Line, net: Net) -> None:
        course, count, optimiser = self.course, len(bottom.features["train"]), standing.optimiser
        assert optimiser is not None, "the exchange is split"
        if plan.pseudo is not None and plan.pseudo.of == "components" and not net.done:
            points = components(bottom.features["train"], plan.pseudo.components)
            await net.send(net.hub, Components(0, points, purpose="query"))
        for turn in stage(course.pretraining_schedule(count), 0, standing, net):
            if plan.pseudo is not None and plan.pseudo.of == "embeddings" and turn.index == course.clustered_at:
                await self._show_all(bottom, line)
            grads = await self._step(plan, bottom, turn, line)
            optimiser.step(grads, rate(turn.index, course.steps, course.warmup))

    async def _step(self, plan: Pretraining, bottom: Bottom, turn: Turn, line: Line) -> dict[str, Tensor]:
        """One batch of views, and the attack on some of them: the gradients of the bottom."""
        x, node = bottom.rows(turn), self.course.public.child("views", turn.index)
        one, two = (self.course.augmentation.apply(x, node.child(k)) for k in range(2))
        clean = [one, two, *([] if plan.high is None else [high_pass(x, plan.high)])]
        bases = {"none": [], "plain": [x], "first": [one], "both": [one, two]}[plan.adversarial]
        told = [x] if self.course.labelled(turn.index) else []
        if not bases:
            output = self._pass(bottom, torch.cat([*clean, *told]), turn)
            return bottom.network.pull_back(output, await line.ask(output, "train"))[1]
        quiet = self._pass(bottom, torch.cat(clean), turn)
        await line.show(quiet)
        ball = Ball(torch.cat([*bases, *told]), self.course.threat.eps)
        start = ball.drawn(self.rng.child("pretraining", turn.index))
        moved = await self._moved(bottom, ball, start, turn, line)
        struck = self._pass(bottom, moved, turn)
        g = await line.ask(struck, "train", len(quiet))
        return bottom.network.pull_back(torch.cat([quiet, struck]), g)[1]

    async def _moved(self, bottom: Bottom, ball: Ball, start: Tensor, turn: Turn, line: Line) -> Tensor:
        """Rows (m, ...) after the sign steps of an attack in training, which leaves the bottom as it is."""
        here, threat, turn = start, self.course.threat, turn.held()
        for _ in range(threat.inner):
            here = here.requires_grad_()
            z = self._pass(bottom, here, turn)
            g = await line.ask(z)
            here = ball.stepped(here.detach(), gradients(z, [here], g)[0], threat.size)
        return here

    async def _show_all(self, bottom: Bottom, line: Line) -> None:
        for turn in pass_over("train", len(bottom.features["train"])):
            await line.show(bottom.network.infer(bottom.rows(turn)))

    async def _finetune(self, bottom: Bottom, standing: Standing, line: Line, net: Net) -> None:
        course, plan, count = self.course, self.course.finetuning, len(bottom.features["train"])
        if plan.mode == "slf":
            await self._show_all(bottom, line)
            return
        standing.optimiser = plan.optimiser.build(bottom.network.trained) if plan.moves_bottoms else None
        for turn in stage(course.finetuning_schedule(count), course.before, standing, net):
            grads = await self._tuned(bottom, turn, line)
            if standing.optimiser is not None and grads is not None:
                standing.optimiser.step(grads, rate(turn.index, plan.steps))

    async def _tuned(self, bottom: Bottom, turn: Turn, line: Line) -> dict[str, Tensor] | None:
        """One batch; the gradients of the bottom, if it learns."""
        plan, x = self.course.finetuning, bottom.rows(turn)
        if plan.moves_bottoms:
            x = self.course.augmentation.apply(x, self.course.public.child("tuned", turn.index))
        ball, node = Ball(x, self.course.threat.eps), self.rng.child("finetuning", turn.index)
        clean: list[Tensor] = []
        if plan.mode == "trades":
            clean = [self._pass(bottom, x, turn)]
            await line.show(clean[0])
            start = ball.project(x + 0.001 * torch.randn(x.shape, generator=node.torch()))
        else:
            start = ball.drawn(node)
        if plan.attacks:
            x = await self._moved(bottom, ball, start, replace(turn, quiet=not plan.moves_bottoms), line)
        if plan.mode == "alf":
            await line.show(bottom.network.infer(x), "train")
            return None
        output = self._pass(bottom, x, turn)
        g = await line.ask(output, "train", sum(map(len, clean)))
        return bottom.network.pull_back(torch.cat([*clean, output]), g)[1]

    def _pass(self, bottom: Bottom, x: Tensor, turn: Turn) -> Tensor:
        return bottom.network.train(x, turn, self.course.through)
