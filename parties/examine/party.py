"""A party's half of the examination: it answers for its reach, climbs with all others, then tries its own weights."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsim.net import Net
from fedsim.parties.examine import Answer, Examination, Goal, Radii, Reach, Settled, Tried
from fedsim.parties.examine.weights import Subject, climb, examine
from fedsim.seeding import Rng
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.bounds import FORMS
from fedsim.vfl.schedule import Turn

ROUNDS = 25
"""Radii tried for the certificate of each row: so many halvings of eight orders of magnitude."""


def settled(bottom: Bottom, subject: Subject) -> tuple[Tensor, Tensor]:
    """What the bottom makes of every training row, and of the rows that are examined."""
    rows = torch.arange(len(bottom.features["train"]))
    with torch.no_grad():
        train = subject.run(subject.weights, bottom.rows(Turn(0, 0, "train", rows)))
        return train, subject.run(subject.weights)


def subject_of(bottom: Bottom, plan: Examination) -> Subject:
    """A bottom as it is in use, over the rows that are examined."""
    count = len(bottom.features["evaluate"])
    rows = torch.arange(min(count, plan.rows or count))
    return Subject.of(bottom.network, bottom.rows(Turn(0, 0, "evaluate", rows)))


def reach(subject: Subject, alone: Tensor, together: Tensor, round_: int) -> tuple[Tensor, Tensor]:
    """How far embeddings can move at these radii, (n,) each; entrywise in the first half of the rounds, then by norms."""
    module = subject.in_double()
    bound = FORMS["entrywise" if round_ < ROUNDS else "norms"]
    with torch.no_grad():
        one, all_ = (bound(module, subject.rows.double(), radii, None)[1] for radii in (alone, together))
    return one, all_


async def at_party(bottom: Bottom, plan: Examination, net: Net, rng: Rng) -> None:
    """Everything, in the order in which the hub asks for it."""
    subject = subject_of(bottom, plan)
    train, test = settled(bottom, subject)
    await net.send(net.hub, Settled(0, train, test, purpose="query"))
    for round_ in range(2 * ROUNDS):
        radii = await net.recv(net.hub, Radii, round_)
        one, all_ = reach(subject, radii.alone, radii.together, round_)
        await net.send(net.hub, Reach(round_, one, all_, purpose="query"))
    step = 0

    async def ask(z: Tensor, goal: Goal) -> Answer:
        nonlocal step
        await net.send(net.hub, Tried(step, z, goal, purpose="query"))
        answer = await net.recv(net.hub, Answer, step)
        step += 1
        return answer

    for i, eps in enumerate(plan.radii):
        await climb(subject, eps, plan.steps, rng.child("together", i), ask)
    found = await examine(subject, plan, rng.child("alone"), ask)
    await ask(test[None, :0], "none")  # no rows: that was all
    await net.send(net.hub, found.message())
