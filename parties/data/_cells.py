"""What a cell may hold: numbers that are numbers, labels that are there, pixels between 0 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fedsim.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
Missing = Literal["error", "mean"]
LARGEST = float(np.finfo(np.float32).max)


def numbers(column: pd.Series[Any], where: str, missing: Missing) -> npt.NDArray[np.float64]:
    """The cells of a numeric column, (n,) float64; missing ones are NaN.

    Args:
        column: cells that are numbers, or text that spells numbers.
        where: how errors name the column.
        missing: ``error`` refuses missing cells, ``mean`` lets them pass.

    Raises:
        DataError: a cell is no number, not finite in float32, or missing under ``error``.
    """
    import pandas as pd

    cells = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    holes = np.isnan(cells)
    if (wrong := holes & column.notna().to_numpy()).any():
        raise DataError(f"{where} must be numeric; found '{column[wrong].iloc[0]}', the first of {wrong.sum()}")
    if holes.any() and missing == "error":
        raise DataError(f"{where} has {holes.sum()} missing cells (NaN); mend them, or set 'missing: mean'")
    if (wrong := np.abs(np.where(holes, 0.0, cells)) > LARGEST).any():
        raise DataError(f"{where} has {wrong.sum()} cells that are infinite or beyond float32")
    return cells


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


def complete(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """The column as it is; DataError if a cell is missing."""
    if holes := int(column.isna().sum()):
        raise DataError(f"{where} has {holes} missing cells; every row needs one")
    return column


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
