"""Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedsim.dataset import Content, Dataset
from fedsim.parties.datasets._idx import NAMES, idx_sources, read_idx


class FashionMnist(Dataset):
    """Fashion-MNIST: 70,000 pictures of clothes, 28x28."""

    paper = "Xiao, Rasul, Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking, arXiv 1708.07747"
    title = "Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28x28"
    file = "fashion_mnist.npz"
    origin = "https://github.com/zalandoresearch/fashion-mnist"
    licence = "MIT (Zalando SE)"
    size = 30_900_000
    content = "37e5852d33933792bfddacf387e185c9c3d87fa20c45417517512181f092a44a"
    sources = idx_sources(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        ),
        40_000_000,
    )

    @classmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """Four arrays, as their files have them."""
        return {array: read_idx(sources[name]) for array, name in NAMES.items()}
