"""What sits at a seat: an async function over a `Net` that reads like the paper's algorithm and does no I/O of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from fedsim.net import Net


class Role(Protocol):
    """A seat's part in the protocol."""

    async def run(self, net: Net) -> None:
        """Play the part from ``net.step`` to the end."""

    def tensors(self) -> Mapping[str, Tensor]:
        """The trained parameters that live at this seat, by name."""

    def sidecar(self) -> Mapping[str, Any]:
        """What else this seat needs to use its parameters on new rows, as plain JSON (fitted preprocessing, classes)."""

    def knows(self, name: str) -> Any:
        """A fact this seat knows without being told, or None; an attacker at this seat gets it if it is granted."""

    def describe(self) -> Mapping[str, Any]:
        """For people: what sits here, in plain values (parameters, columns, rows)."""
