"""A small table of people with two columns that tell groups apart, for tests that ask who is treated how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsim import config
from fedsim.config import ScenarioFile

SCENARIO: dict[str, Any] = {
    "kind": "baseline",
    "data": {"kind": "csv", "path": "people.csv", "label": "paid", "test": 240},
    "parties": {
        "town": {"columns": "age, sex, region"},
        "office": {"columns": "hours, grade"},
        "dice": {"columns": "r1, r2"},
    },
    "bottom": {"kind": "mlp", "hidden": [8]},
    "embedding": 4,
    "optimiser": {"kind": "adam", "lr": 0.02},
    "batch": 40,
    "steps": 60,
    "evaluate": 60,
}
FAIR = {"by": ["sex", "region"], "at_least": 20}


def table(rows: int = 640) -> pd.DataFrame:
    """Pay follows from hours, grade, age and sex; r1 and r2 are noise; of some regions there are few."""
    rng = np.random.default_rng(3)
    found = pd.DataFrame(
        {
            "age": rng.normal(40, 10, rows).round(1),
            "sex": rng.choice(["umber", "zaffre"], rows, p=[0.4, 0.6]),
            "region": rng.choice(["northmost", "southmost", "islet", "atoll"], rows, p=[0.49, 0.4, 0.06, 0.05]),
            "hours": rng.normal(38, 8, rows).round(1),
            "grade": rng.integers(1, 9, rows),
            "r1": rng.normal(size=rows).round(4),
            "r2": rng.normal(size=rows).round(4),
        }
    )
    score = found.hours / 8 + found.grade + found.age / 15 + 2 * (found.sex == "zaffre") + rng.normal(0, 1, rows)
    found["paid"] = np.where(score > score.median(), "yes", "no")
    return found


def make_file(folder: Path, **more: Any) -> ScenarioFile:
    """The scenario over a table that is written into ``folder``, if there is none."""
    path = folder / "people.csv"
    if not path.exists():
        table().to_csv(path, index=False)
    scenario = {**SCENARIO, "data": {**SCENARIO["data"], "path": str(path)}, **more}
    return config.validate({"name": "people", "seed": 3, "scenario": scenario}, "people", {})
