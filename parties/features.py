"""A feature party: a slice of everybody's features, and a bottom model over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fedsim.errors import ThreatModelError
from fedsim.message import Message
from fedsim.net import Net
from fedsim.parties.encode import Encoder
from fedsim.parties.victim import judge_features
from fedsim.seeding import Rng
from fedsim.threat import Claim, Fact, Judgement
from fedsim.vfl import shared, split
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.cuts import played
from fedsim.vfl.messages import Embedding, Gradient, Model, ParameterGradient, Rows
from fedsim.vfl.optimise import Optimiser, snapshot
from fedsim.vfl.schedule import Schedule
from fedsim.wire import Envelope, encode

if TYPE_CHECKING:
    from fedsim.parties.vertical import AtParty


class Talk(NamedTuple):
    """What goes over a party's link in a full step.

    Attributes:
        step: what the step is called, unless there is but one kind.
        up: rows of each embedding that the party sends.
        down: rows of each gradient that comes back.
    """

    step: str
    up: Sequence[int]
    down: Sequence[int]


class FeatureParty:
    """Owns a slice and trains a bottom on it.

    Attributes:
        bottom: the bottom model, over training and held-out rows.
        optimiser: what updates it; None when the exchange is shared, where the hub does.
        schedule: the turns of the run.
        encoder: the preprocessing, fitted on the training rows.
        architecture: the bottom's configuration, as it may be disclosed.
        left_out: rows of this seat's own table that not all seats have; None where all seats have the same rows.
        epilogue: what the scenario has this party do after the training, if anything.
        appraisal: what it does after that for a model card, if anything.
        prologue: the same before the training.
        talk: what is said in a step; by the schedule, unless a scenario has stages of its own.
        notices: what people should know of its columns.
    """

    def __init__(
        self,
        bottom: Bottom,
        optimiser: Optimiser | None,
        schedule: Schedule,
        encoder: Encoder,
        architecture: Mapping[str, Any],
        left_out: int | None = None,
        epilogue: AtParty | None = None,
        prologue: AtParty | None = None,
        appraisal: AtParty | None = None,
    ) -> None:
        self.bottom, self.optimiser, self.schedule = bottom, optimiser, schedule
        self.encoder, self.architecture, self.left_out = encoder, architecture, left_out
        self.epilogue, self.prologue, self.appraisal = epilogue, prologue, appraisal
        self.notices: list[str] = []
        each = [schedule.together] * schedule.exchanges
        self.talk = Talk("", each, each)

    async def run(self, net: Net) -> None:
        """Say how many rows there are, follow the hub, and do what the scenario has come before and after it."""
        for notice in self.notices:
            net.show({"notice": f"{net.me}: {notice}"})
        await net.send(net.hub, Rows(0, self.schedule.train, self.schedule.test, purpose="query"))
        if self.prologue is not None:
            await self.prologue.at_party(self, net)
        if self.optimiser is None:
            await shared.hand_over(self.bottom, net)
            await shared.follow(self.bottom, played(self.schedule, self, net), net)
        else:
            await split.follow(self.bottom, self.optimiser, played(self.schedule, self, net), net)
        for after in (self.epilogue, self.appraisal):
            if after is not None:
                await after.at_party(self, net)

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        return {"bottom": self.bottom.network.state(), "optimiser": self.optimiser and self.optimiser.state()}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self.bottom.network.restore(state["bottom"])
        if self.optimiser is not None:
            self.optimiser.restore(state["optimiser"])

    def tensors(self) -> Mapping[str, Tensor]:
        """The bottom's parameters and buffers."""
        return self.bottom.network.tensors

    def sidecar(self) -> Mapping[str, Any]:
        """The fitted preprocessing and the architecture."""
        return {"encoder": self.encoder.to_json(), "architecture": dict(self.architecture)}

    def knows(self, name: str) -> Any:
        """``rows``: which training rows were in each batch, by step."""
        return batches(self.schedule) if name == "rows" else None

    def describe(self) -> Mapping[str, Any]:
        """Rows, inputs, embedding width, parameters; of a table of its own, how many rows were left out."""
        train = self.bottom.features["train"]
        return {
            "columns": list(self.encoder.names),
            "rows": {"train": len(train), "test": len(self.bottom.features["evaluate"])},
            "input": list(train.shape[1:]),
            "embedding": self.architecture["embedding"],
            "model": self.architecture["model"],
            "parameters": sum(p.numel() for p in self.bottom.network.parameters.values()),
            "bytes": self._frames(),
            **({"step": self.talk.step} if self.talk.step else {}),
            **({} if self.left_out is None else {"left_out": self.left_out}),
            **({"notices": list(self.notices)} if self.notices else {}),
        }

    def _frames(self) -> dict[str, int]:
        """How long the frames of each kind of message on this party's link are together, in a full step; bytes."""
        width = self.architecture["embedding"] * (1 + self.bottom.reaches)
        trained, buffers = snapshot(self.bottom.network.trained), snapshot(self.bottom.network.buffers)
        found = {kind.kind(): 0 for kind in (Embedding, Gradient)}
        for message in (
            *(Embedding(0, torch.zeros(rows, width)) for rows in self.talk.up),
            *(Gradient(0, torch.zeros(rows, width)) for rows in self.talk.down),
        ):
            found[message.kind()] += _length(message)
        update = _length(Model(0, {}, buffers)) if buffers else 0
        for message, more in ((ParameterGradient(0, trained), 0), (Model(0, trained, buffers), update)):
            found[message.kind()] = (_length(message) + more) * self.schedule.exchanges
        return found

    def disclose(self, name: str) -> Fact:
        """``bottom``: architecture, present parameters and buffers."""
        if name != "bottom":
            raise ThreatModelError(f"a feature party cannot disclose '{name}'; allowed: bottom")
        return Fact(self.architecture, self.bottom.network.tensors)

    def judge(self, claim: Claim, rng: Rng) -> Judgement:
        """Hold reconstructed rows against the encoded training rows."""
        return judge_features(self.bottom.features["train"], claim, rng)


def _length(message: Message) -> int:
    """Of its frame, bytes."""
    return len(encode(Envelope("party", "hub", 0, message)))


def batches(schedule: Schedule) -> dict[int, Tensor]:
    """The rows of every training step, by step."""
    return {turn.step: turn.rows for turn in schedule.turns() if turn.purpose == "train"}
