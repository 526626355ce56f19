"""Adversarial contrastive learning in two streams."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.parties.pretraining import Adversarial, Pretraining


class Acl(Pretraining):
    """Dual stream: NT-Xent over two augmented views, and over both of them attacked."""

    paper: ClassVar[str] = (
        "Jiang et al., Robust Pre-Training by Adversarial Contrastive Learning, NeurIPS 2020, arXiv 2010.13337"
    )

    adversarial: Adversarial = Field("both", description="the attacked views")
    dual: bool = Field(True, description="attacked views are positives of each other only, clean ones likewise")
