"""A victim: it trains a model of its own and answers what an attacker asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.errors import ProtocolError
from fedsim.net import Net
from fedsim.parties.minmax import Query, Response
from fedsim.parties.minmax.training import Training, keep, restore, train
from fedsim.seeding import Rng
from fedsim.vfl.cuts import exchanged
from fedsim.vfl.network import Network, gradients
from fedsim.vfl.schedule import Turn
from fedsim.wire import Envelope, encode


class ModelVictim:
    """A model behind a seat.

    Attributes:
        network: from images to logits (B, classes).
        x, labels: what it is trained on, (N, C, H, W) in [0, 1] and (N,).
        training: how.
        rng: the seat's own, for that.
        digest: of all that the trained model follows from.
        architecture: the model's configuration, for people.
        asked: images of a query, at most, but for the first.
    """

    def __init__(
        self,
        network: Network,
        x: Tensor,
        labels: Tensor,
        training: Training,
        rng: Rng,
        digest: str,
        architecture: Mapping[str, Any],
        asked: int,
    ) -> None:
        self.network, self.x, self.labels, self.training = network, x, labels, training
        self.rng, self.digest, self.architecture, self.asked = rng, digest, architecture, asked

    async def run(self, net: Net) -> None:
        """Train, or take what was trained before; then answer until there is nothing more to judge."""
        if net.cuts is not None:
            net.cuts.take_up(self)
        if not net.done and not restore(self.network, self.digest):
            train(self.network, self.x, self.labels, self.training, self.rng, _telling(net))
            keep(self.network, self.digest)
        while len((query := await net.recv(net.hub, Query, net.step)).x):
            await net.send(net.hub, self.answer(query))
            net.step += 1
            if query.gradient:
                exchanged(self, net)

    def answer(self, query: Query) -> Response:
        """What the model makes of the images.

        Raises:
            ProtocolError: they are of another shape than those it was trained on, not in [0, 1], or have other labels.
        """
        x, labels = query.x, query.labels
        if x.shape[1:] != self.x.shape[1:] or x.dtype != self.x.dtype or labels.shape != (len(x),):
            raise ProtocolError(f"expected images {tuple(self.x.shape[1:])} with a label each, found {tuple(x.shape)}")
        if not ((x >= 0) & (x <= 1)).all():
            raise ProtocolError("an image to judge has values outside of [0, 1]")
        if not query.gradient:
            return self._judged(query, self.network.infer(x), torch.empty(0))
        x = x.detach().requires_grad_()
        logits = self.network.train(x, Turn(query.step, 0, "query", torch.arange(len(x)), quiet=True))
        g = gradients(margins(logits, labels).sum(), [x])[0]
        return self._judged(query, logits.detach(), g)

    def _judged(self, query: Query, logits: Tensor, g: Tensor) -> Response:
        wrong = logits.argmax(dim=1) != query.labels
        return Response(query.step, margins(logits, query.labels), wrong, g, purpose="query")

    def state(self) -> Any:
        """See `fedsim.state.Lasting`: the trained model."""
        return self.network.state()

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self.network.restore(state)

    def tensors(self) -> Mapping[str, Tensor]:
        """The model's parameters and buffers."""
        return {name: tensor.detach().contiguous() for name, tensor in self.network.tensors.items()}

    def sidecar(self) -> Mapping[str, Any]:
        """The model's configuration."""
        return {"architecture": dict(self.architecture)}

    def knows(self, name: str) -> Any:
        """Nothing that an attack could be granted."""

    def describe(self) -> Mapping[str, Any]:
        """Model, parameters, rows, what it was trained against, and how long the frames of a full query are, bytes."""
        x, labels = self.x[:1].expand(self.asked, -1, -1, -1), self.labels[:1].expand(self.asked)
        query = Query(0, x, labels, True)
        answer = Response(0, torch.zeros(self.asked), torch.zeros(self.asked, dtype=torch.bool), x)
        return {
            "holds": "images to train on",
            "model": self.architecture["model"],
            "embedding": self.architecture["embedding"],
            "trained against": self.training.against.name if self.training.against else "nothing",
            "parameters": sum(p.numel() for p in self.network.parameters.values()),
            "rows": {"train": len(self.x)},
            "bytes": {m.kind(): len(encode(Envelope("victim", "attacker", 0, m))) for m in (query, answer)},
        }


def _telling(net: Net) -> Callable[[float], None]:
    return lambda done: net.show({"claim": f"{net.me} trains its model", "done": done})


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class less the largest other, (B,); Carlini and Wagner, IEEE S&P 2017, loss f6."""
    true = functional.one_hot(labels, logits.shape[1]) == 1
    return (logits * true).sum(dim=1) - logits.masked_fill(true, -torch.inf).amax(dim=1)
