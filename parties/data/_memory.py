"""Data sets that come whole from a library or a generator and need no file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from fedsim.parties.cut import ImageSchema, Part, Schema, TableSchema
from fedsim.parties.data import Array, Data

if TYPE_CHECKING:
    import pandas as pd


class InMemory(Data, ABC):
    """A data set that one call makes."""

    @abstractmethod
    def load(self) -> tuple[pd.DataFrame | Array, Array]:
        """The features, a table (n, columns) or images (n, C, H, W) float32 in [0, 1], and the labels, (n,)."""

    def schema(self) -> Schema:  # type: ignore[override]
        """The columns of the table, or the shape of the images."""
        features, _ = self.load()
        if isinstance(features, np.ndarray):
            channels, height, width = features.shape[1:]
            return ImageSchema((channels, height, width))
        return TableSchema(tuple(features.columns))

    def read(self, part: Part) -> pd.DataFrame | Array:
        """This part of the features."""
        features, _ = self.load()
        return part.take(features)

    def labels(self) -> Array:
        """The labels, (n,)."""
        return self.load()[1]

    def count(self) -> int:
        """How many rows there are in all."""
        return len(self.labels())
