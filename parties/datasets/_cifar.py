"""The binary version of CIFAR-10: records of a label and 3 x 32 x 32 bytes, in six files of one archive."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedsim.dataset import Source
from fedsim.errors import DataError

ARCHIVE = "cifar-10-binary.tar.gz"
SOURCES = (Source(ARCHIVE, (f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",), 250_000_000),)
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
RECORD, RECORDS = 1 + 3 * 32 * 32, 10_000
FIRST_4000 = "71f154433294a999d0cbe7cf0bd8fcf205f72b961af0a654513fedde0d4db3b3"
"""`fedsim.dataset.digest_content` of the first 4,000 training images and labels."""


def read_batches(path: Path, names: tuple[str, ...]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images, (N, 32, 32, 3), and labels, (N,), of some files of the archive, in this order.

    Raises:
        DataError: a file is not in the archive, or not of 10,000 records.
    """
    found: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = Path(member.name).name
            if name in names and member.isfile():
                if member.size != RECORD * RECORDS:
                    raise DataError(f"{path.name}: {name} has {member.size:,} bytes; expected {RECORD * RECORDS:,}")
                file = archive.extractfile(member)
                found[name] = file.read() if file else b""
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{path.name}: holds no {missing[0]}")
    records = np.concatenate([np.frombuffer(found[name], np.uint8).reshape(-1, RECORD) for name in names])
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.ascontiguousarray(records[:, 0])
