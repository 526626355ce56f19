"""iDLG: what the last layer's gradient gives away need not be searched for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from fedsim.errors import ThreatModelError
from fedsim.scenarios.attacks._disclosed import check_trained, network
from fedsim.scenarios.attacks._matching import Matching
from fedsim.scenarios.attacks._rounds import GradientMatching, Seen
from fedsim.seeding import Rng
from fedsim.threat import Knowledge


class Idlg(GradientMatching):
    """DLG for an eavesdropper who does not see ``dL/dz``: it is read off the last layer instead of being searched for.

    The paper reads the label of a single sample off the gradient of the last layer. A bottom has no labels; what stands in
    their place is ``dL/dz``, and the gradient of the last layer's bias is its sum over the batch. For one row that is
    ``dL/dz`` itself, and the attack finds what `dlg` finds while it sees less. For more rows only the sum is known; the rest
    is searched for along with the rows, as DLG does with dummy labels, and **the order of the rows is not identified**.
    """

    paper: ClassVar[str] = "Zhao et al., iDLG: Improved Deep Leakage from Gradients, 2020, arXiv 2001.02610, section 3"
    sees = ("ParameterGradient", "Model")

    lr: float = Field(0.1, gt=0, description="first step size; falls to 0 along a cosine")

    def matching(self) -> Matching:
        """See `GradientMatching.matching`."""
        return Matching("l2", self.iterations, self.restarts, self.lr, embeddings=float(self.embeddings), free=True)

    def gradient(self, state: Seen, grads: Mapping[str, Tensor], rows: int) -> Tensor | None:
        """The mean over the batch, for each of its rows."""
        bias = list(grads)[-1]
        return (grads[bias] / rows).expand(rows, -1).contiguous()

    def _arm(self, knowledge: Knowledge, rng: Rng) -> Seen:
        seen = super()._arm(knowledge, rng)
        bottom = knowledge.need("bottom")
        built = network(bottom.config, bottom.tensors)
        last, parameters = list(built.children())[-1], [name for name, _ in built.named_parameters()]
        if not isinstance(last, nn.Linear) or last.bias is None:
            raise ThreatModelError("idlg needs a bottom that ends in a fully connected layer with a bias")
        check_trained(bottom.config, parameters[-1:], "idlg")
        return seen
