"""A tiny federation, played in this process: what a tap on one link sees, and what could be granted besides."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fedsim.channel import Placed, tap
from fedsim.message import Message
from fedsim.models import ModelConfig
from fedsim.models.linear import Linear
from fedsim.net import Net
from fedsim.seeding import Rng
from fedsim.threat import Fact
from fedsim.transport.memory import MemoryNetwork
from fedsim.vfl import shared, split
from fedsim.vfl.absence import Absences
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.building import build_network
from fedsim.vfl.messages import Rows
from fedsim.vfl.optimise import OptimiserConfig, snapshot
from fedsim.vfl.schedule import Schedule
from fedsim.vfl.top import Top

Exchange = Literal["split", "shared"]
HUB, VICTIM, OTHER = "server", "north", "south"
EMBEDDING, CLASSES = 4, 2


@dataclass(frozen=True)
class Recording:
    """What an attacker has to work with.

    Attributes:
        exchange: which protocol was played.
        messages: all that passed the link between the hub and one party, both directions, in order.
        facts: ``rows`` (by training step, (B,) int64), ``bottom`` (a `Fact`: architecture and initial parameters) and
            ``labels`` (N,) int64.
    """

    exchange: Exchange
    messages: tuple[Message, ...]
    facts: Mapping[str, Any]

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of message that passed."""
        return frozenset(message.kind() for message in self.messages)


def record(
    exchange: Exchange, model: ModelConfig, shape: tuple[int, ...], *, rows: int = 12, batch: int = 4, steps: int = 6
) -> Recording:
    """Train two parties with random features in [0, 1] and two classes, and listen on the link of one of them.

    Args:
        exchange: ``split`` or ``shared``.
        model: the bottom of both parties.
        shape: of a party's row, (D,) or (C, H, W).
        rows: training rows.
        batch: rows a step.
        steps: training steps.
    """
    rng = Rng.root(4).child("recording")
    labels = (torch.arange(rows) % 3 == 0).long()
    schedule = Schedule(rng.child("schedule"), rows, 4, batch, steps, every=steps)
    bottoms = {party: _bottom(model, shape, rows, rng.child(party)) for party in (VICTIM, OTHER)}
    victim = bottoms[VICTIM].network
    architecture = {"model": model.model_dump(mode="json"), "shape": list(shape), "embedding": EMBEDDING}
    facts = {
        "rows": {turn.step: turn.rows for turn in schedule.turns() if turn.purpose == "train"},
        "bottom": Fact(architecture, snapshot(victim.tensors)),
        "labels": labels,
    }
    messages = asyncio.run(_play(exchange, schedule, bottoms, _top(labels, rng.child(HUB))))
    return Recording(exchange, messages, facts)


def _bottom(model: ModelConfig, shape: tuple[int, ...], rows: int, rng: Rng) -> Bottom:
    network = build_network(model, shape, EMBEDDING, rng)
    train, test = (torch.rand((n, *shape), generator=rng.child(n).torch()) for n in (rows, 4))
    return Bottom(network, {"train": train, "evaluate": test})


def _top(labels: Tensor, rng: Rng) -> Top:
    network = build_network(Linear(), (2 * EMBEDDING,), CLASSES, rng)
    return Top(network, labels, OptimiserConfig())


async def _play(exchange: Exchange, schedule: Schedule, bottoms: dict[str, Bottom], top: Top) -> tuple[Message, ...]:
    roster = (HUB, *bottoms)
    network = MemoryNetwork(roster)
    nets = {role: Net(role, HUB, roster, network.transport(role)) for role in roster}
    listener = Placed(tap(lambda rng: (), lambda message, seen: (*seen, message)), Rng.root(0))
    nets[HUB].outgoing[VICTIM].append(listener)
    nets[HUB].incoming[VICTIM].append(listener)
    followers = (_follow(exchange, schedule, bottom, nets[party]) for party, bottom in bottoms.items())
    await asyncio.gather(_serve(exchange, schedule, top, nets[HUB]), *followers)
    return tuple(listener.state)


async def _serve(exchange: Exchange, schedule: Schedule, top: Top, net: Net) -> None:
    await net.gather(Rows, 0)
    turns, parties = schedule.turns(), net.peers
    absences = Absences(lambda turn, party: (len(turn.rows), EMBEDDING))
    if exchange == "split":
        await split.serve(top, turns, net, parties, lambda turn, probabilities: None, absences)
    else:
        models = await shared.take_over(OptimiserConfig(), net, parties)
        await shared.serve(top, models, turns, net, parties, lambda turn, probabilities: None, absences)


async def _follow(exchange: Exchange, schedule: Schedule, bottom: Bottom, net: Net) -> None:
    await net.send(net.hub, Rows(0, schedule.train, schedule.test, purpose="query"))
    if exchange == "split":
        optimiser = OptimiserConfig().build(bottom.network.trained)
        await split.follow(bottom, optimiser, schedule.turns(), net)
    else:
        await shared.hand_over(bottom, net)
        await shared.follow(bottom, schedule.turns(), net)
