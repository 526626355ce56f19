"""The format of MNIST: a header of big-endian integers, then bytes; compressed with gzip."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedsim.dataset import Source
from fedsim.errors import DataError

NAMES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}
"""By array, the file that holds it."""


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of a file, of as many dimensions as its fourth byte says.

    Raises:
        DataError: its header does not fit what follows.
    """
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path.name}: not an idx file of bytes; it begins with {data[:4].hex(' ')}")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4).tolist()
    rest = len(data) - 4 - 4 * data[3]
    if math.prod(shape) != rest:
        raise DataError(f"{path.name}: {rest:,} bytes, its header says {' x '.join(map(str, shape))}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def idx_sources(folders: tuple[str, ...], at_most: int) -> tuple[Source, ...]:
    """The four files, each in every one of some folders."""
    return tuple(Source(name, tuple(f"{folder}/{name}" for folder in folders), at_most) for name in NAMES.values())
