"""The shared exchange: parties also send the gradients of their parameters; the hub updates their models and sends them back.

This is the protocol that CAFE attacks (Jin et al., NeurIPS 2021, arXiv 2110.15122, section 2). A party trains on what came
back, so what its defence sent is what it learns from, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.vfl.absence import Absences
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.losses import Losses
from fedsim.vfl.messages import Gradient, Model, ParameterGradient
from fedsim.vfl.optimise import Optimiser, OptimiserConfig, on_cpu, snapshot
from fedsim.vfl.schedule import Turn
from fedsim.vfl.sound import Shapes, healthy, sound
from fedsim.vfl.split import Own, Score, answered, embedded, gather, lesson, note, update
from fedsim.vfl.top import HubModel


async def take_over(config: OptimiserConfig, net: Net, parties: Sequence[RoleId]) -> dict[RoleId, Optimiser]:
    """The hub, at first: the optimiser of every other party's bottom, over a model of its own."""
    # snapshots: the optimiser writes to its tensors, and a tap may still look at the message
    found = {}
    for party in parties:
        if party != net.me:
            model = sound(await net.recv(party, Model, 0), party, None, None)
            found[party] = config.build(snapshot(model.parameters))
    return found


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
    absences: Absences,
    own: Own | None = None,
) -> None:
    """The hub: as in `split`, and owns the optimiser of every bottom."""
    losses = Losses(net)
    for turn in turns:
        embeddings = await gather(turn, net, parties, own, absences)
        if turn.purpose != "train":
            score(turn, top.predict(embeddings))
            continue
        gradients = top.step(turn, embeddings)
        note(turn, top, losses)
        for party in models:
            await net.send(party, Gradient(turn.step, gradients[party], purpose=lesson(party, absences)))
        if own is not None:
            update(own[1], own[0].pull_back(gradients[net.me]), turn)
        for party, model in models.items():
            if party in absences.away:
                continue
            come = await net.recv(party, ParameterGradient, turn.step)
            update(model, sound(come, party, turn, _shapes("grads", model.parameters)).grads, turn)
            await net.send(party, Model(turn.step, model.snapshot()))


async def follow(bottom: Bottom, turns: Iterable[Turn], net: Net) -> None:
    """A party: send embedding and parameter gradients, take over the model that comes back."""
    for turn in turns:
        sent = embedded(bottom, turn, net)
        await net.send(net.hub, sent)
        if turn.purpose != "train":
            continue
        answer = await answered(sent, turn, net)
        grads = bottom.pull_back(answer.g)
        if answer.purpose != "train":
            continue
        await net.send(net.hub, healthy(ParameterGradient(turn.step, on_cpu(grads)), net.me, turn))
        model = await net.recv(net.hub, Model, turn.step)
        bottom.network.load(sound(model, net.hub, turn, _shapes("parameters", bottom.network.parameters)).parameters)


def _shapes(field: str, parameters: Mapping[str, Tensor]) -> Shapes:
    """Those of one field of a message that has a tensor for each parameter."""
    return {f"{field}/{name}": tensor.shape for name, tensor in parameters.items()}
