"""SAPAG: gradient matching under a Gaussian kernel for each layer."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.scenarios.attacks._matching import Matching
from fedsim.scenarios.attacks._rounds import GradientMatching


class Sapag(GradientMatching):
    """Find the rows of a batch by ``min_x mean_l 1 - exp(-|t_l - c_l(x)|^2 / (bandwidth |t_l|^2))``.

    The paper's kernel is as wide as the variance of the layer's gradient; ``|t_l|^2`` is that variance times the number of
    entries (about a mean of zero), so that the width suits layers of any size. All layers weigh the same.
    """

    paper: ClassVar[str] = "Wang et al., SAPAG: A Self-Adaptive Privacy Attack From Gradients, 2020, arXiv 2009.06228"

    lr: float = Field(0.1, gt=0, description="first step size; falls to 0 along a cosine")
    bandwidth: float = Field(
        1.0, gt=0, description="of the kernel, relative to the squared length of a layer's gradient"
    )

    def matching(self) -> Matching:
        """See `GradientMatching.matching`."""
        return Matching(
            "kernel",
            self.iterations,
            self.restarts,
            self.lr,
            bandwidth=self.bandwidth,
            embeddings=float(self.embeddings),
        )
