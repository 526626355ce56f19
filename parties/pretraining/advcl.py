"""AdvCL: an attacked view, high frequencies and pseudo-labels."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.parties.pretraining import Adversarial, Pretraining, Pseudo


class Advcl(Pretraining):
    """Two augmented views, the plain row attacked, its high frequencies, and clusters told from the row attacked anew.

    The clusters are k-means of principal components, where the authors take those of a network pre-trained on ImageNet.
    """

    paper: ClassVar[str] = (
        "Fan et al., When Does Contrastive Learning Preserve Adversarial Robustness from Pretraining to Finetuning?, "
        "NeurIPS 2021, arXiv 2111.01124"
    )

    adversarial: Adversarial = Field("plain", description="the attacked view")
    high: float | None = Field(2.0, gt=0, description="radius of the high-frequency view; null: there is none")
    pseudo: Pseudo | None = Field(Pseudo(), description="clusters as labels; null: none")
