"""What a cell may hold: text in one spelling, pixels between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
Missing = Literal["error", "mean"]
LARGEST = float(np.finfo(np.float32).max)


def text(column: pd.Series[Any]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The cells as strings, (n,), and which are missing, (n,); whole numbers are spelt without ``.0``.

    So codes mean the same where a missing cell elsewhere in the column made pandas turn them into floats.
    """
    import pandas as pd

    missing = column.isna()
    there = column[~missing]
    if pd.api.types.is_float_dtype(column) and (there.abs() < 2**53).all() and (there % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(str).to_numpy(dtype=object), missing.to_numpy(dtype=bool)


def find_positions(known: Sequence[str], cells: Array) -> npt.NDArray[np.int64]:
    """Where in ``known`` each cell is, (n,); -1 where it is not."""
    import pandas as pd

    places: npt.NDArray[np.int64] = pd.Index(list(known), dtype="object").get_indexer(pd.Index(cells, dtype="object"))
    return places.astype(np.int64)


def pixels(images: Array, scale: float, where: str) -> npt.NDArray[np.float32]:
    """Images (n, c, h, w) divided by ``scale``, float32; DataError unless all are within [0, 1]."""
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        scaled: npt.NDArray[np.float32] = images.astype(np.float32) / np.float32(scale)
    if not np.isfinite(scaled).all():
        raise DataError(f"{where} has {(~np.isfinite(scaled)).sum()} pixels that are NaN or infinite")
    if scaled.size and (scaled.min() < 0 or scaled.max() > 1):
        found = f"{scaled.min():.4g} to {scaled.max():.4g}"
        raise DataError(f"{where}: pixels divided by {scale:g} span {found}; allowed: 0 to 1, so set 'scale'")
    return scaled
