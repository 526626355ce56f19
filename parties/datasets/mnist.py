"""MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedsim.dataset import Content, Dataset
from fedsim.parties.datasets._idx import NAMES, idx_sources, read_idx


class Mnist(Dataset):
    """MNIST: 70,000 handwritten digits, 28x28."""

    paper = "LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998"
    title = "MNIST: 60,000 + 10,000 handwritten digits, 28x28"
    file = "mnist.npz"
    origin = "http://yann.lecun.com/exdb/mnist/"
    licence = "CC BY-SA 3.0, as Keras and TensorFlow state it (LeCun, Cortes)"
    size = 11_270_000
    content = "8fc8fc4f0343f34ece1fcfdfb65f0801fac48030ce7c70e62bbb62f64ee2e65b"
    sources = idx_sources(
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        20_000_000,
    )

    @classmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """Four arrays, as their files have them."""
        return {array: read_idx(sources[name]) for array, name in NAMES.items()}
