"""The contract of a wrapper: what comes out is a role again, and a victim if a victim went in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fedsim.net import Net
from fedsim.seeding import Rng
from fedsim.state import digest
from fedsim.testing.expect import check_metadata, expect, no_errors
from fedsim.threat import Claim, Fact, Judgement, Victim, Wrapper

PARTS = ("run", "tensors", "sidecar", "knows", "describe")
AIMED_AT = ("disclose", "judge")


class Bystander:
    """A role that does nothing, and can be aimed at."""

    async def run(self, net: Net) -> None:
        """Nothing."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Two parameters."""
        return {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}

    def sidecar(self) -> Mapping[str, Any]:
        """One value."""
        return {"classes": ["a", "b"]}

    def knows(self, name: str) -> Any:
        """Nothing."""

    def describe(self) -> Mapping[str, Any]:
        """One value."""
        return {"rows": {"train": 3, "test": 1}}

    def disclose(self, name: str) -> Fact:
        """Its parameters."""
        return Fact({}, self.tensors())

    def judge(self, claim: Claim, rng: Rng) -> Judgement:
        """Nothing is right."""
        return Judgement({"psnr": 0.0}, {"psnr": 0.0})


def check_wrapper(config: Wrapper, around: Victim | None = None) -> None:
    """Check a wrapper with these settings, around a role that does nothing or around ``around``.

    Raises:
        ConformanceError: says which part of the contract is broken.
    """
    check_metadata(config)
    kind, inner = config.kind(), Bystander() if around is None else around
    before = digest(inner.tensors())
    with no_errors(f"{kind}: wrapping a role"):
        outer, twin = config.wrap(inner, Rng.root(3)), config.wrap(inner, Rng.root(3))
        parts = [part for part in (*PARTS, *AIMED_AT) if not callable(getattr(outer, part, None))]
        expect(not parts, f"{kind}: what it makes of a role lacks {', '.join(parts)}")
        names = list(outer.tensors())
        expected = list(inner.tensors())
        expect(names == expected, f"{kind}: the parameters are called {names}, not {expected}")
        expect(digest(outer.tensors()) == digest(twin.tensors()), f"{kind}: equal role and Rng, unequal wrapped roles")
    expect(digest(inner.tensors()) == before, f"{kind}: wrapping alone changes the parameters of the role")
