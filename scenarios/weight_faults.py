"""What becomes of a vertical federation whose weights are not what they were, and what can be promised beforehand."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.vfl.harden import Hardening
from parties.vertical import Vertical


class WeightFaults(Vertical):
    """Train a vertical federation, on request against perturbed weights."""

    paper: ClassVar[str] = (
        "Tsai et al., Formalizing Generalization and Robustness to Weight Perturbations, NeurIPS 2021"
    )

    hardening: Hardening = Field(
        default_factory=lambda: Hardening.model_validate({}), description="training against perturbed weights"
    )

    def hardened(self) -> Hardening:
        """That of the file."""
        return self.hardening
