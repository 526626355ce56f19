"""The first of CIFAR-10."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedsim.dataset import Content, Dataset
from fedsim.parties.datasets._cifar import ARCHIVE, SOURCES, read_batches

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar10First(Dataset):
    """The first 4,000 training images of CIFAR-10, in their order."""

    paper = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
    title = "CIFAR-10, the first 4,000 of its training images, 32x32"
    file = "cifar10_lossless_4k.npz"
    origin = "https://www.cs.toronto.edu/~kriz/cifar.html"
    licence = "none stated; its author asks to be cited"
    size = 9_340_000
    content = "3580144fa3a5dfa0fa4c9d29418b7cbc49e9796ddb3d81657f62b762439e9047"
    sources = SOURCES

    @classmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """Images with channels last, labels, and the names of the classes."""
        x, y = read_batches(sources[ARCHIVE], ("data_batch_1.bin",))
        return {"x": x[:4000], "y": y[:4000], "classes": np.array(CLASSES)}
