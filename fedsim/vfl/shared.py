"""The shared exchange: parties also send the gradients of their parameters; the hub updates their models and sends them back.

This is the protocol that CAFE attacks (Jin et al., NeurIPS 2021, arXiv 2110.15122, section 2). A party trains on what came
back, so what its defence sent is what it learns from, and nothing else.

The hub owns what is trained. Buffers (running statistics) are made by the pass at the party; they go up behind the gradients
and come back with the model, so that each message `Model` holds the whole of what changes. Frozen parameters never travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.vfl.absence import Absences
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.losses import Losses
from fedsim.vfl.messages import Gradient, Model, ParameterGradient
from fedsim.vfl.network import Network
from fedsim.vfl.optimise import Optimiser, OptimiserConfig, on_cpu, snapshot
from fedsim.vfl.schedule import Turn
from fedsim.vfl.sound import healthy, sound
from fedsim.vfl.split import Own, Score, answered, embedded, gather, lesson, note, update
from fedsim.vfl.top import HubModel


@dataclass(frozen=True)
class OwnedModel:
    """A party's bottom as the hub owns it.

    Attributes:
        optimiser: over the trained parameters, a copy of the hub's own.
        buffers: as the party first had them; later ones have the same names, shapes and types.
    """

    optimiser: Optimiser
    buffers: Mapping[str, Tensor]


async def take_over(config: OptimiserConfig, net: Net, parties: Sequence[RoleId]) -> dict[RoleId, OwnedModel]:
    """The hub, at first: every other party's bottom, and what updates it.

    Raises:
        ProtocolError: see `sound`.
    """
    # snapshots: the optimiser writes to its tensors, and a tap may still look at the message
    found = {}
    for party in parties:
        if party != net.me:
            model = await net.recv(party, Model, 0)
            sound(replace(model, buffers={}), party, None, None)
            sound(
                model,
                party,
                None,
                _shapes("parameters", model.parameters) | _shapes("buffers", model.buffers),
                dtypes=_dtypes(model.buffers),
            )
            found[party] = OwnedModel(config.build(snapshot(model.parameters)), snapshot(model.buffers))
    return found


async def hand_over(bottom: Bottom, net: Net) -> None:
    """A party, at first: send the model that the hub is to own."""
    network = bottom.network
    await net.send(net.hub, Model(0, snapshot(network.trained), snapshot(network.buffers)))


async def serve(
    top: HubModel,
    models: Mapping[RoleId, OwnedModel],
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
            shapes = _shapes("grads", model.optimiser.parameters)
            update(model.optimiser, sound(come, party, turn, shapes).grads, turn)
            buffers = await _updated_buffers(model, party, turn, net)
            await net.send(party, Model(turn.step, model.optimiser.snapshot(), buffers))


async def _updated_buffers(model: OwnedModel, party: RoleId, turn: Turn, net: Net) -> Mapping[str, Tensor]:
    """What the party's pass has made of its buffers, if its bottom has any."""
    if not model.buffers:
        return {}
    come = await net.recv(party, Model, turn.step)
    return sound(come, party, turn, _shapes("buffers", model.buffers), dtypes=_dtypes(model.buffers)).buffers


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
        await _follow_model(bottom.network, turn, net)


async def _follow_model(network: Network, turn: Turn, net: Net) -> None:
    """Say what this pass has made of the buffers, if there are any, and take over the model that comes back."""
    buffers = network.buffers
    if buffers:
        await net.send(net.hub, healthy(Model(turn.step, {}, snapshot(buffers)), net.me, turn))
    model = await net.recv(net.hub, Model, turn.step)
    shapes = _shapes("parameters", network.trained) | _shapes("buffers", buffers)
    sound(model, net.hub, turn, shapes, dtypes=_dtypes(buffers))
    network.load_update(model.parameters, model.buffers)


def _shapes(field: str, tensors: Mapping[str, Tensor]) -> dict[str, Sequence[int]]:
    """Those of one field of a message that has a tensor for each of these."""
    return {f"{field}/{name}": tensor.shape for name, tensor in tensors.items()}


def _dtypes(buffers: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    return {f"buffers/{name}": tensor.dtype for name, tensor in buffers.items()}
