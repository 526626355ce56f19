"""A seeded classification problem in two domains: the target is turned and shifted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fedsim.parties.cut import Part, TableSchema
from fedsim.parties.data import Array
from fedsim.parties.data._pair import Pair
from fedsim.seeding import Rng

if TYPE_CHECKING:
    import pandas as pd

PAIRS = 4
"""Pairs of class columns, and of nuisance columns."""


class Domains(Pair):
    """Five classes in 16 columns: a Gaussian cloud a class in eight of them, nuisance in the other eight.

    In the target domain the class columns are turned pairwise, and half of the nuisance columns are shifted. Columns come in
    four groups, c0 c1 n0 m0, c2 c3 n1 m1, ..., each of two class columns c, a nuisance column n that shifts and one, m, that
    does not, so that a vertical cut can give each of up to four parties a like share.
    """

    size: int = Field(3000, alias="count", ge=2, description="rows of each domain")
    classes: int = Field(5, ge=2, description="classes")
    spread: float = Field(1.2, gt=0, description="standard deviation of the classes' means")
    noise: float = Field(0.6, gt=0, description="standard deviation within a class")
    nuisance: float = Field(1.0, gt=0, description="standard deviation of the nuisance columns")
    shift: float = Field(3.0, ge=0, description="by how much nuisance columns are shifted in the target domain")
    angle: float = Field(0.5, description="by how much class columns are turned in the target domain, radians")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the data set itself, apart from the experiment's")

    def load(self) -> tuple[pd.DataFrame, Array]:
        """The table (2 count, 16), source first, and the classes as numbers from 0."""
        import pandas as pd

        rng = Rng.root(self.seed).child("domains").numpy()
        means = rng.normal(0, self.spread, (self.classes, 2 * PAIRS))
        y = rng.integers(self.classes, size=2 * self.size)
        x = means[y] + rng.normal(0, self.noise, (len(y), 2 * PAIRS))
        u = rng.normal(0, self.nuisance, (len(y), 2 * PAIRS))
        target = self.is_target()
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        x[target] = x[target].reshape(-1, PAIRS, 2).dot([[cos, sin], [-sin, cos]]).reshape(-1, 2 * PAIRS)
        u[target, :PAIRS] += self.shift
        groups = [np.column_stack([x[:, 2 * k : 2 * k + 2], u[:, k], u[:, PAIRS + k]]) for k in range(PAIRS)]
        return pd.DataFrame(np.concatenate(groups, axis=1), columns=list(self.schema().columns)), y

    def schema(self) -> TableSchema:  # type: ignore[override]
        """The columns, known without drawing."""
        names = (name for k in range(PAIRS) for name in (f"c{2 * k}", f"c{2 * k + 1}", f"n{k}", f"m{k}"))
        return TableSchema(tuple(names))

    def read(self, part: Part) -> pd.DataFrame | Array:
        """These columns."""
        return part.take(self.load()[0])

    def labels(self) -> Array:
        """The classes, (2 count,)."""
        return self.load()[1]

    def count(self) -> int:
        """Rows of both domains."""
        return 2 * self.size

    def is_target(self) -> npt.NDArray[np.bool_]:
        """The second half."""
        return np.arange(2 * self.size) >= self.size
