"""Scikit-learn's digits in two domains, as they are and before patches of its two photographs; no file is needed."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fedsim.parties.cut import ImageSchema, Part, Schema
from fedsim.parties.data import Array
from fedsim.parties.data._pair import Pair
from fedsim.seeding import Rng


class PhotoDigits(Pair):
    """1,797 digits of 8x8 pixels, enlarged to 16x16 in colour; half of them plain, the other half before photographs.

    A target image is |patch - digit|, channel by channel, as MNIST-M is made (Ganin et al., JMLR 2016); no digit is in both
    domains. ``contrast`` scales the patch, so that 0 leaves the domains alike.
    """

    contrast: float = Field(
        0.5, ge=0, le=1, description="how much of a photograph stands behind a target digit; 1: all"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the data set itself, apart from the experiment's")

    def load(self) -> tuple[Array, Array]:
        """Images (1797, 3, 16, 16) float32 in [0, 1], plain ones first, and labels (1797,)."""
        return _load(self.contrast, self.seed)

    def schema(self) -> Schema:  # type: ignore[override]
        """The shape of one image."""
        return ImageSchema((3, 16, 16))

    def read(self, part: Part) -> Array:
        """This block of the images."""
        return np.asarray(part.take(self.load()[0]))

    def labels(self) -> Array:
        """The labels, (1797,)."""
        return self.load()[1]

    def count(self) -> int:
        """Rows of both domains."""
        return len(self.labels())

    def is_target(self) -> npt.NDArray[np.bool_]:
        """The second half."""
        return np.arange(self.count()) >= self.count() // 2


@cache  # every party of a simulation asks for it, more than once
def _load(contrast: float, seed: int) -> tuple[Array, Array]:
    from sklearn import datasets

    digits = datasets.load_digits()
    photos = [datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    rng = Rng.root(seed).child("photo digits").numpy()
    order = rng.permutation(len(digits.target))
    images = np.repeat(digits.images[order] / 16, 2, axis=1).repeat(2, axis=2)[:, None].repeat(3, axis=1)
    for i in range(len(images) // 2, len(images)):
        photo = photos[i % 2]
        top, left = (int(rng.integers(size - 16)) for size in photo.shape[:2])
        patch = photo[top : top + 16, left : left + 16].transpose(2, 0, 1) / 255
        images[i] = np.abs(contrast * patch - images[i])
    found = images.astype(np.float32), digits.target[order]
    for array in found:
        array.setflags(write=False)
    return found
