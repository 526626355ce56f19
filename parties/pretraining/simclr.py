"""Contrastive learning without an attack."""

from __future__ import annotations

from typing import ClassVar

from fedsim.parties.pretraining import Pretraining


class Simclr(Pretraining):
    """Two augmented views, NT-Xent."""

    paper: ClassVar[str] = "Chen et al., A Simple Framework for Contrastive Learning, ICML 2020, arXiv 2002.05709"
