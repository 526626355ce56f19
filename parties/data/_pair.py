"""Data of two domains over the same features: a labelled source, and a target whose labels only score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fedsim.errors import DataError
from fedsim.parties.data import Data, Rows
from fedsim.seeding import Rng


class Sizes(NamedTuple):
    """Rows of a split, by domain: to train on, and held out."""

    source: int
    target: int
    held_source: int
    held_target: int


class Pair(Data, ABC):
    """Two domains; ``rows`` and ``test`` are of each of them, and in a split the source comes first."""

    target_rows: int | None = Field(None, ge=1, description="training rows of the target; none: as rows says")

    @abstractmethod
    def is_target(self) -> npt.NDArray[np.bool_]:
        """Which of all rows are of the target domain, (n,)."""

    def held_out(self) -> npt.NDArray[np.bool_] | None:
        """Which of all rows the data itself holds out, (n,); None: they are drawn."""
        return None

    def split(self, rng: Rng) -> tuple[Rows, Rows]:
        """See `Data.split`: source rows, then target rows, on either side.

        Raises:
            DataError: ``rows`` and ``test`` ask for more than a domain has.
        """
        domains = self.is_target()
        sides = [self._side(np.flatnonzero(domains == d), bool(d), rng.child("domain", d)) for d in (0, 1)]
        return np.concatenate([train for train, _ in sides]), np.concatenate([test for _, test in sides])

    def sizes(self) -> Sizes:
        """How many rows a split has, whatever is drawn."""
        domains = self.is_target()
        sides = [self._side(np.flatnonzero(domains == d), bool(d), Rng.root(0)) for d in (0, 1)]
        (source, held_source), (target, held_target) = [(len(train), len(test)) for train, test in sides]
        return Sizes(source, target, held_source, held_target)

    def _side(self, ids: npt.NDArray[np.intp], target: bool, rng: Rng) -> tuple[Rows, Rows]:
        given = self.held_out()
        wanted = (self.target_rows or self.rows) if target else self.rows
        order = rng.numpy().permutation(ids).astype(np.int64)
        if given is None:
            count = self.test if isinstance(self.test, int) else max(1, round(self.test * len(ids)))
            train, test = order[count:], order[:count]
        else:
            train, test = order[~given[order]], order[given[order]]
            count = self.test if isinstance(self.test, int) else len(test)
        if len(train) < (wanted or 1) or len(test) < count:
            name, asked = "target" if target else "source", f"{wanted or 1} training and {count} held-out rows"
            raise DataError(f"{asked} are asked of the {name} domain, which has {len(ids)} rows")
        return train[:wanted], test[:count]
