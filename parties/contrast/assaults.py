"""Attacks on the trained federation: who moves its slices, how, and what is left of the accuracy.

White-box, on the joint network, with true labels: the hub answers every embedding with the gradient of what is climbed in and
its value by row, and the attacked parties move their own slices. Which rows are still right the hub says before each attack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.contrast.balls import Apgd, Ball, Pgd
from fedsim.contrast.losses import margin, ratio, rivals
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.parties.contrast import Chosen, Reply, Robustness, Threat
from fedsim.parties.contrast.course import Course
from fedsim.seeding import Rng
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.messages import Embedding
from fedsim.vfl.network import Network, gradients
from fedsim.vfl.schedule import Turn

CLEAN, PGD, LONG, RESTARTS, AUTO = "clean", "PGD", "long PGD", "restarts", "APGD"
"""Names of sieges, and of none; a party's own is `alone`."""


@dataclass(frozen=True)
class Assault:
    """One attack from one start.

    Attributes:
        seats: whose slices move.
        method: pgd: rows count as lost by where they end; apgd: by any point on the way.
        steps, eps: of it.
        target: 0: cross-entropy; else the ratio towards the wrong class that is the so likeliest of the clean row.
        nth: which of several starts.
    """

    seats: tuple[RoleId, ...]
    method: Literal["pgd", "apgd"]
    steps: int
    eps: float
    target: int = 0
    nth: int = 0


@dataclass(frozen=True)
class Siege:
    """Assaults in a row, each on what the ones before left right; the first on what another siege left, ``after``."""

    assaults: Sequence[Assault]
    after: str = CLEAN


def alone(party: RoleId) -> str:
    """The name of the siege in which one party's slices move."""
    return f"PGD, {party} alone"


def at(eps: float) -> str:
    """The name of the siege of a curve."""
    return f"PGD, eps {eps:g}"


def sieges(parties: Sequence[RoleId], plan: Robustness, threat: Threat, classes: int) -> dict[str, Siege]:
    """All that is tried, in order, the weaker first."""
    every, eps = tuple(parties), threat.eps
    auto = [Assault(every, "apgd", plan.auto_steps, eps)]
    auto += [Assault(every, "apgd", plan.auto_steps, eps, k + 1, k + 1) for k in range(min(plan.targets, classes - 1))]
    return {
        PGD: Siege([Assault(every, "pgd", plan.steps, eps)]),
        **({alone(p): Siege([Assault((p,), "pgd", plan.steps, eps)]) for p in parties} if len(parties) > 1 else {}),
        LONG: Siege([Assault(every, "pgd", plan.long, eps)]),
        RESTARTS: Siege([Assault(every, "pgd", plan.long, eps, nth=k) for k in range(1, plan.restarts)], LONG),
        AUTO: Siege(auto),
        **{at(radius): Siege([Assault(every, "pgd", plan.steps, radius)]) for radius in plan.radii},
    }


async def besieged(bottom: Bottom, course: Course, net: Net, rng: Rng) -> None:
    """A party's half; ``rng`` is its own, for where attacks start."""
    step = 0
    while True:
        order = await net.recv(net.hub, Chosen, step)
        step += 1
        if not len(order.rows):
            return
        turn = Turn(step, course.steps, "evaluate", order.rows, quiet=True)
        ball = Ball(bottom.rows(turn), order.eps)
        start = ball.drawn(rng.child(order.nth))
        size = order.eps * course.threat.size / course.threat.eps
        attack = Apgd(ball, start, order.steps) if order.method == "apgd" else Pgd(ball, start, size)
        for left in range(order.steps, -1, -1):
            x = attack.x.requires_grad_()
            z = bottom.network.train(x, turn, course.through)
            await net.send(net.hub, Embedding(step, z.detach(), purpose="query"))
            if left:
                reply = await net.recv(net.hub, Reply, step)
                g = gradients(z, [x], reply.g)[0]
                attack.x = x.detach()
                attack.told(g, reply.losses)
            step += 1


@dataclass(frozen=True)
class Defender:
    """The hub's half: the top over embeddings of the held-out rows that are examined.

    Attributes:
        top: from joined embeddings to logits.
        clean: by party, in roster order, (n, E).
        labels: (n,).
    """

    top: Network
    clean: Mapping[RoleId, Tensor]
    labels: Tensor
    net: Net

    async def withstand(self, tried: Mapping[str, Siege]) -> dict[str, Tensor]:
        """Which rows are right after each siege, (n,) bool, and under ``clean`` before any."""
        steps = dict.fromkeys(self.clean, 0)
        right = margin(self.top.infer(torch.cat(list(self.clean.values()), dim=1)), self.labels) < 0
        found = {CLEAN: right}
        for name, siege in tried.items():
            left = found[siege.after].clone()
            for assault in siege.assaults:
                rows = left.nonzero().flatten()
                if len(rows):
                    left[rows] = await self._bears(assault, rows, steps)
            found[name] = left
        for party in self.clean:
            await self._order(party, steps, Assault((party,), "pgd", 0, 0), torch.empty(0, dtype=torch.int64))
        return found

    async def _order(self, party: RoleId, steps: dict[RoleId, int], a: Assault, rows: Tensor) -> None:
        order = Chosen(steps[party], rows, a.method, a.steps, a.eps, a.nth, purpose="query")
        await self.net.send(party, order)
        steps[party] += 1

    async def _bears(self, assault: Assault, rows: Tensor, steps: dict[RoleId, int]) -> Tensor:
        """Which of these rows are right in the end, (m,) bool."""
        for party in assault.seats:
            await self._order(party, steps, assault, rows)
        labels, right = self.labels[rows], torch.ones(len(rows), dtype=torch.bool)
        still = torch.cat([z[rows] for z in self.clean.values()], dim=1)
        target = rivals(self.top.infer(still), labels)[:, assault.target - 1] if assault.target else None
        for left in range(assault.steps, -1, -1):
            z = {party: self.clean[party][rows] for party in self.clean}
            for party in assault.seats:
                z[party] = (await self.net.recv(party, Embedding, steps[party])).z
            g, losses, lead = self._climbed(z, labels, target)
            here = lead < 0
            right = right & here if assault.method == "apgd" else here
            for party in assault.seats:
                if left:
                    await self.net.send(party, Reply(steps[party], g[party], losses, purpose="query"))
                steps[party] += 1
        return right

    def _climbed(
        self, z: Mapping[RoleId, Tensor], labels: Tensor, target: Tensor | None
    ) -> tuple[dict[RoleId, Tensor], Tensor, Tensor]:
        """The gradients of what is climbed in, its value by row, and the lead of the best wrong class."""
        joined = torch.cat(list(z.values()), dim=1).requires_grad_()
        turn = Turn(0, 0, "evaluate", labels, quiet=True)
        logits = self.top.train(joined, turn)
        plain = functional.cross_entropy(logits, labels, reduction="none")
        losses = plain if target is None else ratio(logits, labels, target)
        g = gradients(losses.sum(), [joined])[0]
        parts = torch.split(g, [each.shape[1] for each in z.values()], dim=1)
        return dict(zip(z, parts, strict=True)), losses.detach(), margin(logits.detach(), labels)
