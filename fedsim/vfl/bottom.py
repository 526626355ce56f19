"""A party's half of the network: features in, embedding out, gradients back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedsim.message import Purpose
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Turn

Features = Mapping[Purpose, Tensor]
"""By purpose, the rows it reads: ``train`` and ``evaluate``, or ``query``; each (N, ...) float32."""


class Bottom:
    """A bottom model over a party's features."""

    def __init__(self, network: Network, features: Features) -> None:
        self.network, self.features = network, features
        self._output: Tensor | None = None

    def forward(self, turn: Turn) -> Tensor:
        """The embedding (B, E) of a turn's rows, detached; a training turn keeps its graph for `pull_back`."""
        rows = self.features[turn.purpose].index_select(0, turn.rows)
        if turn.purpose != "train":
            return self.network.infer(rows)
        self._output = self.network.train(rows, turn.step)
        return self._output.detach()

    def pull_back(self, g: Tensor) -> dict[str, Tensor]:
        """The gradient of the loss with respect to each parameter, from that of the embedding (B, E). Updates nothing."""
        assert self._output is not None, "forward comes first"
        grads = torch.autograd.grad(self._output, list(self.network.parameters.values()), g)
        self._output = None
        return dict(zip(self.network.parameters, grads, strict=True))
