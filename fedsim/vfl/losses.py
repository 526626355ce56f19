"""The loss of each training step: logged, and looked at when it is there, not when held-out rows are judged."""

from __future__ import annotations

import math

from fedsim.errors import DivergedError
from fedsim.net import Net

EXPLODED = 1000.0
"""A loss has exploded that is over so many nats, and over so many times that of the first step."""


class Losses:
    """The losses of one run at the seat that has them; a run that is taken up goes on from those that it has logged."""

    def __init__(self, net: Net) -> None:
        self._net = net
        logged = [row for row in net.rows if "loss" in row]
        self._step: int | None = logged[-1]["step"] if logged else None
        self._last: float | None = logged[-1]["loss"] if logged else None
        self._limit = EXPLODED * max(1.0, logged[0]["loss"]) if logged else math.inf
        self._told = any(row["loss"] > self._limit for row in logged)

    def note(self, step: int, loss: float) -> None:
        """Look at a loss in nats, and log the first of its training step.

        Raises:
            DivergedError: it is no number any more.
        """
        if not math.isfinite(loss):
            before = "there was none before" if self._last is None else f"{self._last:.4g} before"
            raise DivergedError(
                f"training diverged: at training step {step} the loss is {loss:g}, {before}; "
                "try a smaller optimiser.lr, or less noise"
            )
        if step == self._step:
            return
        if self._step is None:
            self._limit = EXPLODED * max(1.0, loss)
        elif loss > self._limit and not self._told:
            self._told = True
            self._net.show({"notice": self._exploded(step, loss)})
        self._step, self._last = step, loss
        self._net.log(step=step, loss=loss)

    def _exploded(self, step: int, loss: float) -> str:
        return (
            f"at training step {step} the loss is {loss:.4g}, {self._last:.4g} before: over {EXPLODED:g} nats and {EXPLODED:g} "
            "times that of the first step; training goes on, but try a smaller optimiser.lr, or less noise"
        )
