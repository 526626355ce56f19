"""Apache Parquet, read with pyarrow."""

from __future__ import annotations

from fedsim.parties.data._table import TableFile


class Parquet(TableFile):
    """A parquet file; needs ``pip install 'fedsim-vfl[parquet]'``."""
