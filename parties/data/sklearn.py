"""The small data sets that come with scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from fedsim.parties.data import Array
from fedsim.parties.data._memory import InMemory

if TYPE_CHECKING:
    import pandas as pd


class Sklearn(InMemory):
    """A small data set of scikit-learn: breast cancer, iris and wine are tables, digits are 8x8 images."""

    name: Literal["breast_cancer", "digits", "iris", "wine"] = Field(description="breast_cancer | digits | iris | wine")

    def load(self) -> tuple[pd.DataFrame | Array, Array]:
        """The features, and scikit-learn's own numbers of the classes."""
        from sklearn import datasets

        if self.name == "digits":
            digits = datasets.load_digits()
            return (digits.images[:, None] / 16).astype(np.float32), digits.target
        bunch = getattr(datasets, f"load_{self.name}")(as_frame=True)
        return bunch.data, bunch.target.to_numpy()
