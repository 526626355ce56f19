"""CIFAR-10."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedsim.dataset import Content, Dataset, digest_content
from fedsim.parties.datasets._cifar import ARCHIVE, FIRST_4000, SOURCES, TRAIN, read_batches


class Cifar10(Dataset):
    """CIFAR-10: 60,000 photographs of ten things, 32x32."""

    paper = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
    title = "CIFAR-10: 50,000 + 10,000 photographs of ten things, 32x32"
    file = "cifar10.npz"
    origin = "https://www.cs.toronto.edu/~kriz/cifar.html"
    licence = "none stated; its author asks to be cited"
    size = 165_000_000
    content = ""
    sources = SOURCES

    @classmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """Four arrays; channels last."""
        (x, y), (x_test, y_test) = (read_batches(sources[ARCHIVE], names) for names in (TRAIN, ("test_batch.bin",)))
        return {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}

    @classmethod
    def verify(cls, content: Content) -> str:
        """Its first 4,000 images are known, and how many there are of each class."""
        assert not isinstance(content, str)
        first = {name: content[f"{name}_train"][:4000] for name in ("x", "y")}
        if (found := digest_content(first)) != FIRST_4000:
            return f"its first 4,000 images have the digest {found}, not {FIRST_4000}"
        for part, count in (("train", 5000), ("test", 1000)):
            labels = np.bincount(content[f"y_{part}"].astype(np.int64), minlength=10)
            if labels.tolist() != [count] * 10:
                return f"{part}: {labels.tolist()} images of the classes, not {count:,} of each"
        return ""
