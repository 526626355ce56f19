"""Who can learn what from the gradients of a vertical federation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from fedsim.parties.vertical import Vertical
from fedsim.vfl.schedule import Window


class Leakage(Vertical):
    """Train a vertical federation while somebody listens.

    With a ``window`` the hub holds all models still for some rounds (regime frozen, in which CAFE is exact: the authors
    train at a learning rate of 1e-6); without it models move as usual (regime training).
    """

    resumes: ClassVar[bool] = True
    misses: ClassVar[bool] = True
    paper: ClassVar[str] = "Jin et al., CAFE: Catastrophic Data Leakage in Vertical Federated Learning, NeurIPS 2021"

    window: Window | None = Field(None, description="rounds in which the hub holds every model still (shared only)")

    @model_validator(mode="after")
    def _window_needs_shared(self) -> Leakage:
        if self.window is None:
            return self
        if self.exchange != "shared":
            raise ValueError("window: only in exchange 'shared' can the hub hold every model still")
        if self.window.first + self.window.rounds > self.steps:
            raise ValueError(f"window: ends after step {self.window.first + self.window.rounds}, steps: {self.steps}")
        return self

    def window_of_stillness(self) -> Window | None:
        """The window of the file."""
        return self.window
