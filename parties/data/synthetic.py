"""A seeded classification problem of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from fedsim.parties.cut import TableSchema
from fedsim.parties.data import Array
from fedsim.parties.data._memory import InMemory

if TYPE_CHECKING:
    import pandas as pd


class Synthetic(InMemory):
    """One Gaussian cloud a class, on the corners of a hypercube; columns x0, x1, ... (Guyon, NIPS 2003 challenge)."""

    size: int = Field(1000, alias="count", ge=2, description="rows in all")
    features: int = Field(20, ge=1, description="columns in all")
    informative: int = Field(10, ge=1, description="columns that depend on the class; the others are noise")
    classes: int = Field(2, ge=2, description="classes")
    imbalance: float | None = Field(None, gt=0, lt=1, description="share of class 1; none: all classes equally often")
    noise: float = Field(0.01, ge=0, le=1, description="share of the rows whose label is drawn at random")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the data set itself, apart from the experiment's")

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        if self.informative > self.features:
            raise ValueError(f"informative: {self.informative} is more than features: {self.features}")
        if self.classes > 2**self.informative:
            raise ValueError(f"{self.classes} classes need more than {self.informative} informative columns")
        return self

    def load(self) -> tuple[pd.DataFrame, Array]:
        """The table (count, features) and the classes as numbers from 0."""
        import pandas as pd
        from sklearn.datasets import make_classification

        x, y = make_classification(
            n_samples=self.size,
            n_features=self.features,
            n_informative=self.informative,
            n_redundant=0,
            n_classes=self.classes,
            n_clusters_per_class=1,
            weights=self._weights(),
            flip_y=self.noise,
            random_state=self.seed,
        )
        return pd.DataFrame(x, columns=list(self.schema().columns)), y

    def schema(self) -> TableSchema:  # type: ignore[override]
        """The columns, known without drawing."""
        return TableSchema(tuple(f"x{k}" for k in range(self.features)))

    def count(self) -> int:
        """How many rows there are, known without drawing."""
        return self.size

    def _weights(self) -> list[float] | None:
        if self.imbalance is None:
            return None
        rest = (1 - self.imbalance) / (self.classes - 1)
        return [self.imbalance if k == 1 else rest for k in range(self.classes)]
