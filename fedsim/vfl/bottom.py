"""A party's half of the network: features in, embedding out, gradients back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from fedsim.message import Purpose
from fedsim.seeding import Rng
from fedsim.vfl.harden import PLAIN, Hardening
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Turn

Features = Mapping[Purpose, Tensor]
"""By purpose, the rows it reads: ``train`` and ``evaluate``, or ``query``; each (N, ...) float32."""
Augment = Callable[[Tensor, Rng], Tensor]
"""Maps training rows (B, ...) to varied ones of the same shape."""
Distortion = Callable[[Tensor, Turn], Tensor]
"""What becomes of a turn's rows (B, ...) on their way to the bottom; or of its embeddings (B, E) on their way out."""


class Variants(Protocol):
    """What a bottom is trained on besides its rows as they are: others near them, which learn from their gradients."""

    def around(self, rows: Tensor, turn: Turn) -> Tensor:
        """Rows (B, ...) of a training turn with their variants behind them, (V, ...)."""

    def told(self, g: Tensor, turn: Turn) -> None:
        """The gradients of the loss with respect to all of these, (V, ...)."""


class Bottom:
    """A bottom model over a party's features.

    In a quiet turn nothing is drawn: no augmentation, no dropout.

    Attributes:
        network, features: what it computes with, and what it reads.
        reaches: whether a training turn sends the embedding's reach beside it.
        distortions: what befalls the features of any turn, in order: a broken sensor.
        replies: what becomes of the embeddings of turns that do not train, in order: a party that is not there.
        variants: what training turns have besides their rows; None: nothing.
    """

    def __init__(
        self,
        network: Network,
        features: Features,
        augment: tuple[Augment, Rng] | None = None,
        hardening: Hardening = PLAIN,
    ) -> None:
        self.network, self.features = network, features
        self.distortions: list[Distortion] = []
        self.replies: list[Distortion] = []
        self.variants: Variants | None = None
        self.reaches = hardening.robust > 0
        self._through = hardening.outward if self.reaches else None
        self._augment = augment
        self._output: Tensor | None = None
        self._input: tuple[Tensor, Turn] | None = None

    def forward(self, turn: Turn) -> Tensor:
        """The embedding (B, E) of a turn's rows, detached; a training turn keeps its graph for `pull_back`.

        With the robust term the embedding of a training turn has its reach beside it, (B, 2E); see `fedsim.vfl.harden`.
        """
        rows = self.rows(turn)
        if turn.purpose != "train":
            return self._replied(self.network.infer(rows), turn)
        if self._augment is not None and not turn.quiet:
            vary, rng = self._augment
            rows = vary(rows, rng.child(turn.step))
        if self.variants is not None:
            rows = self.variants.around(rows, turn).requires_grad_()
            self._input = rows, turn
        self._output = self.network.train(rows, turn, self._through)
        return self._output.detach()

    def rows(self, turn: Turn) -> Tensor:
        """A turn's rows (B, ...) as they reach the bottom."""
        rows = self.features[turn.purpose].index_select(0, turn.rows)
        for distort in self.distortions:
            rows = distort(rows, turn)
        return rows

    def _replied(self, z: Tensor, turn: Turn) -> Tensor:
        for reply in self.replies:
            z = reply(z, turn)
        return z

    def pull_back(self, g: Tensor) -> dict[str, Tensor]:
        """The gradient of the loss with respect to each parameter, from that of what was sent. Updates nothing."""
        assert self._output is not None, "forward comes first"
        rows, turn = self._input or (None, None)
        found, grads = self.network.pull_back(self._output, g, rows)
        self._output = self._input = None
        if self.variants is not None and found is not None and turn is not None:
            self.variants.told(found, turn)
        return grads
