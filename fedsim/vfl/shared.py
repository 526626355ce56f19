"""The shared exchange: parties also send the gradients of their parameters; the hub updates their models and sends them back.

This is the protocol that CAFE attacks (Jin et al., NeurIPS 2021, arXiv 2110.15122, section 2). A party trains on what came
back, so what its defence sent is what it learns from, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.vfl.absence import Absences
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.messages import Embedding, Gradient, Model, ParameterGradient
from fedsim.vfl.optimise import Optimiser, OptimiserConfig, on_cpu, snapshot
from fedsim.vfl.schedule import Turn
from fedsim.vfl.split import Own, Score, gather, lesson, note, update
from fedsim.vfl.top import HubModel


async def take_over(config: OptimiserConfig, net: Net, parties: Sequence[RoleId]) -> dict[RoleId, Optimiser]:
    """The hub, at first: the optimiser of every other party's bottom, over a model of its own."""
    # snapshots: the optimiser writes to its tensors, and a tap may still look at the message
    others = [party for party in parties if party != net.me]
    return {p: config.build(snapshot((await net.recv(p, Model, 0)).parameters)) for p in others}


async def hand_over(bottom: Bottom, net: Net) -> None:
    """A party, at first: send the model that the hub is to own."""
    await net.send(net.hub, Model(0, snapshot(bottom.network.parameters)))


async def serve(
    top: HubModel,
    models: Mapping[RoleId, Optimiser],
    turns: Iterable[Turn],
    net: Net,
    parties: Sequence[RoleId],
    score: Score,
    own: Own | None = None,
    absences: Absences | None = None,
) -> None:
    """The hub: as in `split`, and owns the optimiser of every bottom."""
    absences = absences or Absences()
    for turn in turns:
        embeddings = await gather(turn, net, parties, own, absences)
        if turn.purpose != "train":
            score(turn, top.predict(embeddings))
            continue
        gradients = top.step(turn, embeddings)
        for party in models:
            await net.send(party, Gradient(turn.step, gradients[party], purpose=lesson(party, absences)))
        if own is not None:
            update(own[1], own[0].pull_back(gradients[net.me]), turn)
        for party, model in models.items():
            if party in absences.away:
                continue
            update(model, (await net.recv(party, ParameterGradient, turn.step)).grads, turn)
            await net.send(party, Model(turn.step, model.snapshot()))
        note(turn, top, net)


async def follow(bottom: Bottom, turns: Iterable[Turn], net: Net) -> None:
    """A party: send embedding and parameter gradients, take over the model that comes back."""
    for turn in turns:
        await net.send(net.hub, Embedding(turn.step, bottom.forward(turn), purpose=turn.purpose))
        if turn.purpose != "train":
            continue
        answer = await net.recv(net.hub, Gradient, turn.step)
        grads = bottom.pull_back(answer.g)
        if answer.purpose != "train":
            continue
        await net.send(net.hub, ParameterGradient(turn.step, on_cpu(grads)))
        bottom.network.load((await net.recv(net.hub, Model, turn.step)).parameters)
