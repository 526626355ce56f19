"""Two sets of labelled images as two domains: MNIST and USPS, MNIST and MNIST-M."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fedsim.errors import DataError
from fedsim.parties.cut import ImageSchema, Part, Schema
from fedsim.parties.data import Array
from fedsim.parties.data._cells import pixels
from fedsim.parties.data._files import reading
from fedsim.parties.data._images import resized
from fedsim.parties.data._pair import Pair

Named = tuple[Path, str]
"""An archive, and what errors call it."""
KEYS = ("x_train", "x_test", "y_train", "y_test")
ORIGINS = ("src_index_train", "src_index_test")
"""Of each target image, the number of the source image that it is made of."""


class ImagePair(Pair):
    """Two numpy archives with x_train, y_train, x_test and y_test each, brought to the size of the source's images.

    Images are (n, H, W) or (n, H, W, 3). A target of another size is cropped from its middle, or, with ``inner``, resized
    (bilinear) and put in the middle of zeros; grey images become three equal channels beside coloured ones. The archives say
    which rows are held out.
    """

    location: ClassVar[frozenset[str]] = frozenset({"source", "target"})

    source: str = Field(
        "mnist.npz",
        description="the labelled domain: a file, from the folder of the scenario file, the current one or $FEDSIM_DATA",
    )
    target: str = Field("usps.npz", description="the other domain, likewise")
    source_scale: float = Field(255, gt=0, description="divide pixels of the source by this")
    target_scale: float = Field(255, gt=0, description="divide pixels of the target by this; 2000 for usps.npz")
    inner: int | None = Field(None, ge=1, description="resize target images to this many pixels each way; none: crop")
    unpaired: bool = Field(
        False, description="drop source images that the target's are made of, by its src_index_train and src_index_test"
    )

    def load(self) -> tuple[Array, Array]:
        """Images (n, C, H, W) uint8, source first, held-out rows of each domain last; and labels (n,)."""
        return self._loaded()[:2]

    def schema(self) -> Schema:  # type: ignore[override]
        """The shape of one image."""
        channels, height, width = self.load()[0].shape[1:]
        return ImageSchema((channels, height, width))

    def read(self, part: Part) -> Array:
        """This block of the images, float32 in [0, 1]."""
        return pixels(np.asarray(part.take(self.load()[0])), 255, f"{self.source} and {self.target}")

    def labels(self) -> Array:
        """The labels, (n,)."""
        return self.load()[1]

    def count(self) -> int:
        """How many rows both archives have."""
        return len(self.labels())

    def is_target(self) -> npt.NDArray[np.bool_]:
        """The rows of the second archive."""
        return np.isin(self._parts(), (2, 3))

    def held_out(self) -> npt.NDArray[np.bool_]:
        """The test rows of either archive."""
        return np.isin(self._parts(), (1, 3))

    def _parts(self) -> Array:
        """0 and 1: the source's training and test rows; 2 and 3: the target's."""
        return np.repeat(np.arange(4), self._loaded()[2])

    def _loaded(self) -> tuple[Array, Array, tuple[int, ...]]:
        pair = (self.find(self.source), self.source), (self.find(self.target), self.target)
        return _load(*pair, self.source_scale, self.target_scale, self.inner, self.unpaired)


@cache  # every party of a simulation asks for it, more than once
def _load(
    source: Named, target: Named, source_scale: float, target_scale: float, inner: int | None, unpaired: bool
) -> tuple[Array, Array, tuple[int, ...]]:
    one, other = _images(source, source_scale), _images(target, target_scale)
    if unpaired:
        taken = _arrays(target, ORIGINS)
        one = [np.delete(x, ids, axis=0) for x, ids in zip(one, [*taken, *taken], strict=True)]
    height, width = one[0].shape[2:]
    other[:2] = [_fit(each, height, width, inner, target[1]) for each in other[:2]]
    channels = max(one[0].shape[1], other[0].shape[1])
    images = np.concatenate([np.repeat(x, channels // x.shape[1], axis=1) for x in (*one[:2], *other[:2])])
    labels = np.concatenate([*one[2:], *other[2:]])
    for array in (images, labels):
        array.setflags(write=False)
    return images, labels, tuple(len(x) for x in (*one[:2], *other[:2]))


def _images(named: Named, scale: float) -> list[Array]:
    """Training and test images (n, C, H, W) uint8, then their labels."""
    found = _arrays(named, KEYS)
    return [_bytes(x, scale, named[1]) for x in found[:2]] + found[2:]


def _arrays(named: Named, keys: tuple[str, ...]) -> list[Array]:
    file, path = named
    with reading(file, "npz"), np.load(file, allow_pickle=False) as archive:
        if absent := [key for key in keys if key not in archive.files]:
            raise DataError(f"{path} has no array '{absent[0]}'; expected {', '.join(keys)}")
        return [archive[key] for key in keys]


def _bytes(x: Array, scale: float, path: str) -> Array:
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] != 3):
        raise DataError(f"{path}: images have shape {x.shape}; allowed: (n, H, W) and (n, H, W, 3)")
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return (pixels(x, scale, path) * 255).round().astype(np.uint8)


def _fit(x: Array, height: int, width: int, inner: int | None, path: str) -> Array:
    if inner is not None:
        x = resized(x, inner)
        top, left = (height - inner) // 2, (width - inner) // 2
        if min(top, left) < 0:
            raise DataError(f"{path}: inner: {inner} pixels do not fit into images of {height} x {width}")
        return np.pad(x, ((0, 0), (0, 0), (top, height - inner - top), (left, width - inner - left)))
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    if min(top, left) < 0:
        raise DataError(f"{path}: images of {x.shape[2]} x {x.shape[3]} are smaller than {height} x {width}; set inner")
    return x[:, :, top : top + height, left : left + width]
