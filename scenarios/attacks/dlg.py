"""DLG: deep leakage from gradients, here per batch and party."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.scenarios.attacks._matching import Matching
from fedsim.scenarios.attacks._rounds import GradientMatching


class Dlg(GradientMatching):
    """Find the rows of a batch by matching its parameter gradient, ``min_x sum_l |t_l - c_l(x)|^2 / sum_l |t_l|^2``.

    The paper looks for dummy labels along with the rows. Here the server computed ``dL/dz`` itself, which says all that a
    label would and ties every recovered row to its place in the batch: the strongest fair form. Adam in the box [0, 1] for
    the paper's L-BFGS, so that all batches descend at once.
    """

    paper: ClassVar[str] = "Zhu et al., Deep Leakage from Gradients, NeurIPS 2019, arXiv 1906.08935, algorithm 1"

    lr: float = Field(0.1, gt=0, description="first step size; falls to 0 along a cosine")

    def matching(self) -> Matching:
        """See `GradientMatching.matching`."""
        return Matching("l2", self.iterations, self.restarts, self.lr, embeddings=float(self.embeddings))
