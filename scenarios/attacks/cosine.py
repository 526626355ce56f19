"""Inverting Gradients: directions instead of lengths."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.scenarios.attacks._matching import Matching
from fedsim.scenarios.attacks._rounds import GradientMatching


class Cosine(GradientMatching):
    """Find the rows of a batch by ``min_x 1 - cos(t, c(x)) + variation * TV(x)`` with signed Adam.

    As in the paper the step size falls to a tenth at 3/8, 5/8 and 7/8 of the iterations. TV is the mean absolute difference
    of neighbouring pixels; tables have none. Its weight matters: see ``docs/baselines.md`` for what was tried.
    """

    paper: ClassVar[str] = "Geiping et al., Inverting Gradients, NeurIPS 2020, arXiv 2003.14053, section 4"

    lr: float = Field(0.1, gt=0, description="first step size")
    variation: float = Field(1e-4, ge=0, description="weight of the total variation")

    def matching(self) -> Matching:
        """See `GradientMatching.matching`."""
        return Matching(
            "cosine",
            self.iterations,
            self.restarts,
            self.lr,
            decay="steps",
            signed=True,
            variation=self.variation,
            embeddings=float(self.embeddings),
        )
