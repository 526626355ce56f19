"""Data sets that come whole from a library or a generator and need no file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from fedsim.parties.cut import ImageSchema, Part, Schema, TableSchema
from fedsim.parties.data import Array, Data

if TYPE_CHECKING:
    import pandas as pd


MAX_KEPT_BYTES = 1 << 28
_ABOUT_ROWS = {"test", "rows", "drop", "missing"}
"""Settings that do not change what is loaded."""
_last: tuple[str, tuple[pd.DataFrame | Array, Array]] | None = None
"""The data set that was loaded last, by its settings; nobody writes to it."""


class InMemory(Data, ABC):
    """A data set that one call makes."""

    @abstractmethod
    def load(self) -> tuple[pd.DataFrame | Array, Array]:
        """The features, a table (n, columns) or images (n, C, H, W) float32 in [0, 1], and the labels, (n,)."""

    def kept(self) -> tuple[pd.DataFrame | Array, Array]:
        """What `load` gives, made once for all seats of this process that ask one after the other, if it is not too large."""
        global _last
        key = f"{type(self).__qualname__} {self.model_dump_json(exclude=_ABOUT_ROWS)}"
        if _last is not None and _last[0] == key:
            return _last[1]
        found = self.load()
        features = found[0]
        size = features.nbytes if isinstance(features, np.ndarray) else int(features.memory_usage().sum())
        _last = (key, found) if size <= MAX_KEPT_BYTES else None
        return found

    def schema(self) -> Schema:  # type: ignore[override]
        """The columns of the table, or the shape of the images."""
        features, _ = self.kept()
        if isinstance(features, np.ndarray):
            channels, height, width = features.shape[1:]
            return ImageSchema((channels, height, width))
        return TableSchema(tuple(features.columns))

    def read(self, part: Part) -> pd.DataFrame | Array:
        """This part of the features."""
        features, _ = self.kept()
        return part.take(features)

    def labels(self) -> Array:
        """The labels, (n,)."""
        return self.kept()[1]

    def count(self) -> int:
        """How many rows there are in all."""
        return len(self.labels())
