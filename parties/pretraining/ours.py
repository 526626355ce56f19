"""What a vertical federation adds to AdvCL: one record seen by several parties."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.parties.pretraining import Adversarial, Pretraining, Pseudo


class Ours(Pretraining):
    """AdvCL without high frequencies, with cross-party positives: all parties' views of one record are pulled together."""

    paper: ClassVar[str] = (
        "after Fan et al., NeurIPS 2021, arXiv 2111.01124; cross-party positives as in Tian et al., ECCV 2020"
    )

    adversarial: Adversarial = Field("plain", description="the attacked view")
    pseudo: Pseudo | None = Field(Pseudo(), description="clusters as labels; null: none")
    cross: float = Field(0.5, ge=0, description="weight of the loss with cross-party positives")
