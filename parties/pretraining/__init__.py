"""How parties pre-train without labels: one set of settings a file, each named and set as in its paper.

All of them pull views of the same rows together by NT-Xent at the hub; they differ in which views there are, which of them are
attacked and from where, and in what else is asked of the embeddings.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from fedsim.models import ModelConfig
from fedsim.plugins import OneOf, Plugin, Settings, load

Adversarial = Literal["none", "plain", "first", "both"]


class Pseudo(Settings):
    """Pseudo-supervision: clusters of the rows, to be told from attacked embeddings."""

    of: Literal["components", "embeddings"] = Field(
        "components",
        description="components: parties send principal components of their slices, once; embeddings: joined, as trained",
    )
    components: int = Field(15, ge=1, description="principal components of each party's slice")
    sizes: tuple[PositiveInt, ...] = Field(
        (2, 10, 50), min_length=1, description="numbers of clusters, a head for each"
    )
    weight: float = Field(0.2, gt=0, description="of the mean cross-entropy of the heads beside the contrastive loss")
    start: float = Field(
        0.3, ge=0, lt=1, description="of embeddings: after which share of the steps they are clustered"
    )


def _mlp() -> ModelConfig:
    return load("models", ModelConfig, {"kind": "mlp", "hidden": [64]})


class Pretraining(Plugin):
    """Two augmented views of each row and whatever is set besides.

    The loss is ``joint`` times NT-Xent over projections of the joined embeddings, plus ``cross`` times that over projections of
    single parties, where views of one record at different parties are positives too, plus ``own`` times the mean of each
    party's by itself.
    """

    adversarial: Adversarial = Field(
        "none",
        description="an attacked view: none | of the plain row | of the first augmented view | of both, two views",
    )
    dual: bool = Field(False, description="attacked views are positives of each other only, clean ones likewise")
    pull: float = Field(0.0, ge=0, description="weight of NT-Xent over the attacked and the second view alone")
    high: float | None = Field(
        None, gt=0, description="a further view: frequencies of this radius and above, in steps of the slice's spectrum"
    )
    pseudo: Pseudo | None = Field(None, description="clusters as labels; default: none")
    joint: float = Field(1.0, ge=0, description="weight of the loss over joined embeddings")
    cross: float = Field(0.0, ge=0, description="weight of the loss with cross-party positives")
    own: float = Field(0.0, ge=0, description="weight of each party's loss by itself")
    temperature: float = Field(0.5, gt=0, description="of NT-Xent")
    projection: Annotated[ModelConfig, OneOf("models")] = Field(
        default_factory=_mlp, description="from embeddings to what NT-Xent compares"
    )
    width: int = Field(64, ge=1, description="of a projection")

    @model_validator(mode="after")
    def _fits(self) -> Pretraining:
        if not self.joint + self.cross + self.own:
            raise ValueError("joint, cross, own: all are 0; expected a loss")
        if self.dual and self.adversarial != "both":
            raise ValueError(f"dual: expected adversarial: both, found {self.adversarial}")
        if self.pull and self.adversarial not in ("plain", "first"):
            raise ValueError(f"pull: expected one attacked view, found adversarial: {self.adversarial}")
        return self

    @property
    def clean(self) -> int:
        """How many views are not attacked."""
        return 2 + (self.high is not None)

    @property
    def attacked(self) -> int:
        """How many views are attacked through the contrastive loss."""
        return {"none": 0, "plain": 1, "first": 1, "both": 2}[self.adversarial]
