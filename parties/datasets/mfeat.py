"""Multiple Features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedsim.dataset import Content, Dataset, Source
from fedsim.errors import DataError

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/mfeat"
VIEWS = {
    "fou": (76, "<f4"),
    "fac": (216, "<u2"),
    "kar": (64, "<f4"),
    "pix": (240, "u1"),
    "zer": (47, "<f4"),
    "mor": (6, "<f4"),
}
"""By view, its columns and the type that holds them without loss (``<f4``: of five digits)."""
ROWS = 2000


class Mfeat(Dataset):
    """Multiple Features: 2,000 handwritten numerals seen in six ways, which makes six parties."""

    paper = (
        "van Breukelen, Duin, Tax, den Hartog, Handwritten Digit Recognition by Combined Classifiers, Kybernetika 1998"
    )
    title = "Multiple Features: 2,000 handwritten numerals, six views of 6 to 240 columns"
    file = "mfeat_6views.npz"
    origin = "https://archive.ics.uci.edu/dataset/72/multiple+features"
    licence = "CC BY 4.0 (UCI Machine Learning Repository)"
    size = 1_990_000
    content = "a88af57711f3a3d3d091e51574e3208f183afa018555acfceb916c44bf6453bb"
    sources = tuple(Source(f"mfeat-{view}", (f"{UCI}/mfeat-{view}",), 20_000_000) for view in VIEWS)

    @classmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """An array a view, and the classes: 200 rows of each, in order."""
        found = {}
        for view, (columns, dtype) in VIEWS.items():
            rows = np.loadtxt(sources[f"mfeat-{view}"], dtype=np.float64, ndmin=2)
            if rows.shape != (ROWS, columns):
                raise DataError(f"mfeat-{view}: {rows.shape[0]} x {rows.shape[1]} numbers; expected {ROWS} x {columns}")
            found[view] = rows.astype(dtype)
        return {**found, "y": np.repeat(np.arange(10, dtype=np.uint8), ROWS // 10)}
