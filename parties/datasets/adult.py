"""Adult, the census of 1994."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedsim.dataset import Content, Dataset, Source
from fedsim.errors import DataError

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/adult"
COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship", "race", "sex",
    "capital_gain", "capital_loss", "hours_per_week", "native_country", "income",
)  # fmt: skip
ROWS = {"train": 32_561, "test": 16_281}


class Adult(Dataset):
    """Adult (Census Income): 48,842 people, 14 features; do they earn more than $50,000 a year?"""

    paper = "Kohavi, Scaling Up the Accuracy of Naive-Bayes Classifiers, KDD 1996"
    title = "Adult (Census Income): 32,561 + 16,281 people, 14 features, 24 % earn more"
    file = "adult.csv.gz"
    origin = "https://archive.ics.uci.edu/dataset/2/adult"
    licence = "CC BY 4.0 (UCI Machine Learning Repository)"
    size = 600_000
    content = "d6362d8cb6d5ececd0b8bffc9db874989768ec3d10f2e9fb0df602f598cafb3f"
    sources = (
        Source(
            "adult.data",
            (f"{UCI}/adult.data",),
            10_000_000,
            "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
        ),
        Source(
            "adult.test",
            (f"{UCI}/adult.test",),
            10_000_000,
            "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
        ),
    )

    @classmethod
    def convert(cls, sources: Mapping[str, Path]) -> Content:
        """One table with a column that says which part a row is of; ``?`` becomes an empty cell, ``>50K.`` loses its dot."""
        lines = [",".join([*COLUMNS, "split"])]
        for part, name in (("train", "adult.data"), ("test", "adult.test")):
            rows = [row for row in sources[name].read_text("ascii").splitlines() if row and not row.startswith("|")]
            if len(rows) != ROWS[part]:
                raise DataError(f"{name}: {len(rows):,} rows; expected {ROWS[part]:,}")
            for row in rows:
                cells = ["" if cell.strip() == "?" else cell.strip() for cell in row.removesuffix(".").split(",")]
                if len(cells) != len(COLUMNS):
                    raise DataError(f"{name}: a row of {len(cells)} cells; expected {len(COLUMNS)}: {row:.60}")
                lines.append(",".join([*cells, part]))
        return "\n".join(lines) + "\n"
