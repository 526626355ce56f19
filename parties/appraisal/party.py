"""A party's half of the appraisal, and what a hub that is a party does at its own seat."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedsim.figure import Figure
from fedsim.net import Net
from fedsim.parties.appraisal import Appraisal, Fairness, GroupSums, Outcomes, Valued, Varied
from fedsim.parties.appraisal.drills import Drill, begin, copy_of_party, drills, turns
from fedsim.parties.appraisal.features import apart, explain
from fedsim.parties.appraisal.groups import differences, disclosed, rates, sums
from fedsim.parties.appraisal.result import group_figure
from fedsim.parties.features import FeatureParty
from fedsim.seeding import Rng
from fedsim.vfl.messages import Embedding

Groups = Mapping[str, npt.NDArray[Any]]
"""By column, the group of each held-out row, (n,), as text."""


def played(plan: Appraisal, party: str) -> list[Drill]:
    """What a party tries: nothing where neither its worth nor the federation's resilience is asked for."""
    return list(drills(plan, party)) if plan.worth or plan.resilience else []


def variants(party: FeatureParty, name: str, plan: Appraisal) -> Iterator[FeatureParty]:
    """The party as it is, then a copy for each seed of each drill."""
    yield party
    for drill in played(plan, name):
        for seed in drill.seeds:
            twin = copy_of_party(party, training_rows=drill.axis == "absent")
            begin(drill, twin, seed)
            yield twin


def embeddings(party: FeatureParty, nth: int) -> Iterator[tuple[int, Tensor]]:
    """By step of the exchange, what the n-th variant of a party sends for the held-out rows."""
    for turn in turns(party.schedule, nth):
        yield turn.step, party.bottom.forward(turn)


def judge_groups(groups: Groups, outcomes: Outcomes, asked: Fairness) -> Iterator[tuple[str, Tensor, Figure]]:
    """For each column that a seat knows: the sums that may leave, and a table by the names of groups."""
    selected, labelled = outcomes.selected.numpy(), len(outcomes.positive) > 0
    positive = outcomes.positive.numpy() if labelled else selected
    for column, group in groups.items():
        every = sums(group, selected, positive)
        shown = disclosed(every, asked.at_least)
        counts = np.array(list(shown.values()), dtype=np.int64).reshape(-1, 4)
        withheld = len(every) - len(shown), len(group) - int(counts.sum())
        found = rates(counts, labelled) if len(counts) else {}
        table = group_figure(column, list(shown), counts, found, differences(counts, labelled), withheld)
        yield column, torch.from_numpy(counts), table


async def at_party(party: FeatureParty, plan: Appraisal, groups: Groups, net: Net, public: Rng) -> None:
    """Send what the hub judges, judge what only this seat can, explain what this party discloses."""
    for nth, twin in enumerate(variants(party, net.me, plan)):
        for step, z in embeddings(twin, nth):
            await net.send(net.hub, Embedding(step, z, purpose="evaluate"))
    if plan.fairness is not None and groups:
        outcomes = await net.recv(net.hub, Outcomes, 0)
        for column, counts, figure in judge_groups(groups, outcomes, plan.fairness):
            await net.send(net.hub, GroupSums(plan.fairness.by.index(column), counts, purpose="query"))
            net.draw(figure)
    if plan.worth is not None and net.me in plan.disclosing:
        await _explain(party, plan, net, public)


async def _explain(party: FeatureParty, plan: Appraisal, net: Net, public: Rng) -> None:
    loop, step, worth = asyncio.get_running_loop(), 0, plan.worth
    assert worth is not None

    async def tell(z: Tensor, goal: str) -> Valued:
        nonlocal step
        await net.send(net.hub, Varied(step, z, goal, purpose="query"))
        step += 1
        return await net.recv(net.hub, Valued, step - 1)

    def ask(z: Tensor, goal: str) -> Valued:
        return asyncio.run_coroutine_threadsafe(tell(z, goal), loop).result()

    found = await apart(lambda: explain(party, worth, public.child("explain", net.me), ask))
    await net.send(net.hub, Varied(step, torch.empty(0), "none", purpose="query"))
    for figure in found.figures(net.me):
        net.draw(figure)
