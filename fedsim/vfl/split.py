"""The split exchange: one round trip a mini-batch; no parameter and no gradient of a parameter travels.

Source: split learning over vertically partitioned data (Vepakomma et al., 2018, arXiv 1812.00564).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

from fedsim.message import Purpose, RoleId
from fedsim.net import Net
from fedsim.vfl.absence import Absences
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.losses import Losses
from fedsim.vfl.messages import Embedding, Gradient
from fedsim.vfl.optimise import Optimiser
from fedsim.vfl.schedule import Turn
from fedsim.vfl.sound import healthy, sound
from fedsim.vfl.top import HubModel

Score = Callable[[Turn, Tensor], None]
"""Called with a turn that does not train and the probabilities (B, C) of its rows."""
Own = tuple[Bottom, Optimiser]
"""The bottom of a hub that is a party itself, and what updates it."""


async def serve(
    top: HubModel,
    turns: Iterable[Turn],
    net: Net,
    parties: Sequence[RoleId],
    score: Score,
    absences: Absences,
    own: Own | None = None,
) -> None:
    """The hub: gather embeddings, step the top, send each party its gradient; a party that was missing is sent no lesson."""
    losses = Losses(net)
    for turn in turns:
        embeddings = await gather(turn, net, parties, own, absences)
        if turn.purpose != "train":
            score(turn, top.predict(embeddings))
            continue
        gradients = top.step(turn, embeddings)
        note(turn, top, losses)
        for party, g in gradients.items():
            if own is not None and party == net.me:
                bottom, optimiser = own
                update(optimiser, bottom.pull_back(g), turn)
            else:
                await net.send(party, Gradient(turn.step, g, purpose=lesson(party, absences)))


async def follow(bottom: Bottom, optimiser: Optimiser, turns: Iterable[Turn], net: Net) -> None:
    """A party: send the embedding, receive its gradient, update the bottom."""
    for turn in turns:
        sent = embedded(bottom, turn, net)
        await net.send(net.hub, sent)
        if turn.purpose == "train":
            answer = await answered(sent, turn, net)
            grads = bottom.pull_back(answer.g)
            if answer.purpose == "train":
                update(optimiser, grads, turn)


def embedded(bottom: Bottom, turn: Turn, net: Net) -> Embedding:
    """What a party sends for a turn, or would if it were another seat than the hub.

    Raises:
        DivergedError: see `healthy`.
    """
    return healthy(Embedding(turn.step, bottom.forward(turn), purpose=turn.purpose), net.me, turn)


async def answered(sent: Embedding, turn: Turn, net: Net) -> Gradient:
    """The gradient of what was sent; one with another purpose than ``train`` is no lesson.

    Raises:
        ProtocolError: see `sound`.
    """
    answer = await net.recv(net.hub, Gradient, turn.step)
    return sound(answer, net.hub, turn, {"g": sent.z.shape}, finite=answer.purpose == "train")


async def gather(
    turn: Turn, net: Net, parties: Sequence[RoleId], own: Own | None, absences: Absences
) -> dict[RoleId, Tensor]:
    """The embedding of every party, in roster order; the hub's own is computed here and does not travel."""
    embeddings: dict[RoleId, Tensor] = {}
    absences.begin()
    for party in parties:
        if own is not None and party == net.me:
            embeddings[party] = embedded(own[0], turn, net).z
        else:
            embeddings[party] = await absences.embedding(turn, net, party)
    absences.note(turn, net)
    return embeddings


def lesson(party: RoleId, absences: Absences) -> Purpose:
    """The purpose of what a party is sent back: only ``train`` updates its bottom."""
    return "query" if party in absences.away else "train"


def update(optimiser: Optimiser, grads: Mapping[str, Tensor], turn: Turn) -> None:
    """One update, unless no model moves in this turn."""
    if not turn.hold:
        optimiser.step(grads)


def note(turn: Turn, top: HubModel, losses: Losses) -> None:
    """Look at the loss of a training step; the first of a step is logged."""
    if not turn.rehearsal:
        losses.note(turn.index, top.loss)
