"""Robust contrastive learning: instance-wise attacks."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.parties.pretraining import Adversarial, Pretraining


class Rocl(Pretraining):
    """The first augmented view is attacked; it joins both as a third, and is pulled to the second once more (1/256)."""

    paper: ClassVar[str] = (
        "Kim et al., Adversarial Self-Supervised Contrastive Learning, NeurIPS 2020, arXiv 2006.07589"
    )

    adversarial: Adversarial = Field("first", description="the attacked view")
    pull: float = Field(1 / 256, ge=0, description="weight of NT-Xent over the attacked and the second view alone")
