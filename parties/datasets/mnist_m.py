"""MNIST-M."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fedsim.dataset import Content, Dataset, Source
from fedsim.errors import DataError

COMMIT = "dae4e088b27b9e0d6c8d586fa9972f86c97cb503"
REPOSITORY = "ShichengChen/Domain-Adversarial-Training-of-Neural-Networks"
ARCHIVE = f"mnist_m-{COMMIT[:7]}.zip"
ROWS = Path(__file__).parent / "_mnist_m_rows.txt"
"""Which lines of the label files are taken, balanced over the classes: for each part the gaps between them."""


class MnistM(Dataset):
    """MNIST-M: digits of MNIST before patches of photographs; 7,000 of them, as many of each class."""

    paper = "Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016"
    title = "MNIST-M: 5,000 + 2,000 digits before photographs, 32x32, as many of each class"
    file = "mnist_m_7k.npz"
    origin = f"https://github.com/{REPOSITORY}"
    licence = "made from MNIST (CC BY-SA 3.0) and photographs of BSDS500 (no licence found): not for redistribution"
    size = 13_470_000
    content = "d0e2677280bacf5e81f6dd0a36b8b1f8c6d9064d45427cf1e95b5ccf292b117f"
    sources = (Source(ARCHIVE, (f"https://codeload.github.com/{REPOSITORY}/zip/{COMMIT}",), 800_000_000),)

    @classmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """Images, labels, and the line of each in the label file of its part."""
        found: dict[str, npt.NDArray[np.generic]] = {}
        with zipfile.ZipFile(sources[ARCHIVE]) as archive:
            # pictures are told apart by their folder, the two label files by their names
            members = {"/".join(PurePosixPath(name).parts[-2:]): name for name in archive.namelist()}
            members |= {PurePosixPath(name).name: name for name in archive.namelist() if name.endswith("_labels.txt")}
            for part, rows in chosen_rows().items():
                lines = _read(archive, members, f"mnist_m_{part}_labels.txt").decode("ascii").splitlines()
                picked = [lines[row].split() for row in rows]
                images = [_image(_read(archive, members, f"mnist_m_{part}/{name}")) for name, _ in picked]
                found[f"x_{part}"] = np.stack(images)
                found[f"y_{part}"] = np.array([int(label) for _, label in picked], dtype=np.uint8)
                found[f"src_index_{part}"] = rows.astype("<i4")
        return found


@cache
def chosen_rows() -> dict[str, npt.NDArray[np.int64]]:
    """By part, the lines of its label file that are taken, ascending."""
    parts = (line.split() for line in ROWS.read_text("ascii").splitlines())
    return {name: np.cumsum([int(gap) for gap in gaps]) for name, *gaps in parts}


def _read(archive: zipfile.ZipFile, members: Mapping[str, str], name: str) -> bytes:
    if name not in members:
        raise DataError(f"{ARCHIVE}: holds no {name}")
    return archive.read(members[name])


def _image(data: bytes) -> npt.NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
