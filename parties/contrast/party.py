"""A party's half of the three stages: it shows embeddings of its slice and moves its rows or its bottom by what comes back."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from fedsim.contrast.balls import Ball
from fedsim.contrast.clusters import components
from fedsim.contrast.views import high_pass
from fedsim.message import Purpose
from fedsim.net import Net
from fedsim.seeding import Rng
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.messages import Embedding, Gradient
from fedsim.vfl.optimise import Optimiser
from fedsim.vfl.schedule import Turn, pass_over
from fedsim.vfl.sound import healthy, sound
from parties.contrast import Components, Progress, Spent, rate
from parties.contrast.assaults import besieged
from parties.contrast.course import Course, Kept
from parties.features import FeatureParty
from parties.pretraining import Pretraining


class Line:
    """A party's end of the conversation; both ends count what was shown."""

    def __init__(self, net: Net) -> None:
        self._net, self._step = net, 0

    async def show(self, z: Tensor, purpose: Purpose = "query") -> None:
        """Send an embedding that no gradient comes back for."""
        message = Embedding(self._step, z.detach(), purpose=purpose)
        await self._net.send(self._net.hub, healthy(message, self._net.me, None))
        self._step += 1

    async def ask(self, z: Tensor, purpose: Purpose = "query", shown: int = 0) -> Tensor:
        """Send an embedding, and get the gradient of what it is for; before it stands that of ``shown`` rows shown earlier."""
        message = Embedding(self._step, z.detach(), purpose=purpose)
        await self._net.send(self._net.hub, healthy(message, self._net.me, None))
        answer = await self._net.recv(self._net.hub, Gradient, self._step)
        self._step += 1
        return sound(answer, self._net.hub, None, {"g": (shown + len(z), z.shape[1])}).g


class Slice:
    """What a party does; ``rng`` is its own node, for where attacks start."""

    def __init__(self, course: Course, rng: Rng) -> None:
        self.course, self.rng = course, rng

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """Pre-train, fine-tune, be attacked."""
        line, spent, bottom = Line(net), [0], party.bottom
        if self.course.pretraining is not None:
            assert party.optimiser is not None, "the exchange is split"
            finished = await self._pretrain(self.course.pretraining, bottom, party.optimiser, line, net)
            if not finished:
                return
        spent.append(sum(net.traffic.size.values()))
        await self._finetune(bottom, line)
        spent.append(sum(net.traffic.size.values()))
        for turn in pass_over("evaluate", len(bottom.features["evaluate"])):
            await line.show(bottom.network.infer(bottom.rows(turn)), "evaluate")
        await besieged(bottom, self.course, net, self.rng.child("robustness"))
        spent.append(sum(net.traffic.size.values()))
        await net.send(net.hub, Spent(0, *(b - a for a, b in pairwise(spent)), purpose="query"))

    async def _pretrain(self, plan: Pretraining, bottom: Bottom, optimiser: Optimiser, line: Line, net: Net) -> bool:
        """All steps of this run; whether they were the last."""
        course, count = self.course, len(bottom.features["train"])
        state = {**{f"bottom.{k}": t for k, t in bottom.network.parameters.items()}, **optimiser.state()}
        kept = Kept(course.pieces, net.me, state)
        done = kept.restore()
        await net.send(net.hub, Progress(0, done, purpose="query"))
        if plan.pseudo is not None and plan.pseudo.of == "components":
            points = components(bottom.features["train"], plan.pseudo.components)
            await net.send(net.hub, Components(0, points, purpose="query"))
        for turn in course.pretraining_turns(count, done):
            if plan.pseudo is not None and plan.pseudo.of == "embeddings" and turn.index == course.clustered_at:
                await self._show_all(bottom, line)
            grads = await self._step(plan, bottom, turn, line)
            optimiser.step(grads, rate(turn.index, course.steps, course.warmup))
            kept.note(turn.index + 1, course.end(done))
        return course.end(done) == course.steps

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
        """Rows (m, ...) after the sign steps of an attack in training."""
        here, threat = start, self.course.threat
        for _ in range(threat.inner):
            here = here.requires_grad_()
            z = self._pass(bottom, here, turn)
            g = await line.ask(z)
            here = ball.stepped(here.detach(), torch.autograd.grad(z, here, g)[0], threat.size)
        return here

    async def _show_all(self, bottom: Bottom, line: Line) -> None:
        for turn in pass_over("train", len(bottom.features["train"])):
            await line.show(bottom.network.infer(bottom.rows(turn)))

    async def _finetune(self, bottom: Bottom, line: Line) -> None:
        plan, count = self.course.finetuning, len(bottom.features["train"])
        if plan.mode == "slf":
            await self._show_all(bottom, line)
            return
        optimiser = plan.optimiser.build(bottom.network.parameters) if plan.moves_bottoms else None
        for turn in self.course.finetuning_turns(count):
            grads = await self._tuned(bottom, turn, line)
            if optimiser is not None and grads is not None:
                optimiser.step(grads, rate(turn.index, plan.steps))

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
            x = await self._moved(bottom, ball, start, turn, line)
        if plan.mode == "alf":
            await line.show(bottom.network.infer(x), "train")
            return None
        output = self._pass(bottom, x, turn)
        g = await line.ask(output, "train", sum(map(len, clean)))
        return bottom.network.pull_back(torch.cat([*clean, output]), g)[1]

    def _pass(self, bottom: Bottom, x: Tensor, turn: Turn) -> Tensor:
        return bottom.network.train(x, turn, self.course.through)
