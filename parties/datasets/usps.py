"""USPS."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedsim.dataset import Content, Dataset, Source
from fedsim.errors import DataError

ESL = ("https://hastie.su.domains/ElemStatLearn/datasets", "https://web.stanford.edu/~hastie/ElemStatLearn/datasets")
ROWS = {"train": 7291, "test": 2007}


class Usps(Dataset):
    """USPS: 9,298 digits from envelopes, 16x16."""

    paper = "Hull, A Database for Handwritten Text Recognition Research, IEEE TPAMI 1994"
    title = "USPS: 7,291 + 2,007 digits from envelopes, 16x16"
    file = "usps.npz"
    origin = "https://hastie.su.domains/ElemStatLearn/data.html (ZIP code)"
    licence = "none stated; used in research by custom"
    size = 1_630_000
    content = "a7d85ff79dab510eb493732c6c2df06f5de228ae582ea644d1c1875ad109c5e2"
    sources = tuple(
        Source(f"zip.{part}.gz", tuple(f"{folder}/zip.{part}.gz" for folder in ESL), 10_000_000) for part in ROWS
    )

    @classmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """Pixels from -1 to 1 with three decimals become integers from 0 to 2,000."""
        found: dict[str, npt.NDArray[np.generic]] = {}
        for part, count in ROWS.items():
            text = gzip.decompress(sources[f"zip.{part}.gz"].read_bytes()).decode("ascii")
            rows = np.array([line.split() for line in text.splitlines() if line.strip()], dtype=np.float64)
            if rows.shape != (count, 257):
                raise DataError(
                    f"zip.{part}.gz: an array {rows.shape}; expected {count} rows of a label and 256 pixels"
                )
            found[f"x_{part}"] = np.rint((rows[:, 1:] + 1) * 1000).astype("<u2").reshape(-1, 16, 16)
            found[f"y_{part}"] = rows[:, 0].astype(np.uint8)
        return found
