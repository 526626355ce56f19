"""A table for each seat of a small federation, as files in a folder of its own, and the scenario over them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.outcome import SeatReport
from fedsim.plan import Secrets
from fedsim.play import play
from fedsim.runtime.local import memory
from fedsim.state import digest

MARK = "NHS-"
"""What every id begins with, and nothing else."""
COLUMNS: Mapping[str, list[str]] = {"server": ["ill"], "north": ["age", "sex"], "east": ["pulse", "weight"]}
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "scenario": {
        "kind": "baseline",
        "data": {"kind": "tables", "id": "number", "label": "ill", "test": 0.25},
        "parties": {"north": {"columns": "age, sex"}, "east": {"columns": "pulse:weight"}},
        "bottom": {"kind": "mlp", "hidden": [6], "dropout": 0.1},
        "embedding": 4,
        "batch": 10,
        "steps": 8,
        "evaluate": 4,
    },
}
MORE = {"server": range(90, 100), "north": range(80, 95), "east": range(80, 85)}
"""Rows that a seat has beside the first 80, which all have; none of them is everywhere."""


def people() -> pd.DataFrame:
    """All columns of 100 people, by number; the first 80 are in every table."""
    draw = np.random.default_rng(5)
    pulse, age = draw.normal(70, 9, 100).round(1), draw.integers(18, 90, 100)
    return pd.DataFrame(
        {
            "number": [f"{MARK}{7919 * i % 10_000:04}" for i in range(100)],
            "age": age,
            "sex": draw.choice(["f", "m"], 100),
            "pulse": pulse,
            "weight": draw.normal(75, 12, 100).round(1),
            "height": draw.normal(170, 9, 100).round(),
            "ill": np.where(pulse + age / 4 > 82, "yes", "no"),
        }
    )


def write(folder: Path, shuffle: int = 0, form: str = "csv") -> dict[str, str]:
    """Each seat's table in a folder of its own, ``<folder>/<seat>/<seat>.<form>``, its rows in another order; the paths."""
    table, paths = people(), {}
    for i, (seat, columns) in enumerate(COLUMNS.items()):
        own = table[["number", *columns]].iloc[[*range(80), *MORE[seat]]].sample(frac=1, random_state=shuffle + i)
        path = folder / seat / f"{seat}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            own.to_parquet(path, index=False)
        elif form == "npz":
            np.savez(path, **{name: np.array(own[name].tolist()) for name in own})
        else:
            own.to_csv(path, index=False)
        paths[seat] = str(path)
    return paths


def scenario(files: Mapping[str, str] = {}, **changes: Any) -> ScenarioFile:
    """The scenario over such files; ``changes`` go over its settings."""
    data = {**SETTINGS["scenario"]["data"], "files": dict(files)}
    plain = {**SETTINGS, "name": "own", "scenario": {**SETTINGS["scenario"], "data": data, **changes}}
    return config.validate(plain, "own", {})


def played(file: ScenarioFile, secrets: Mapping[str, Secrets]) -> dict[str, str]:
    """The weights of every seat after a run in this process, in which seats have secrets of their own."""

    async def all_seats() -> list[SeatReport]:
        ways = memory(file.plan()).items()
        tasks = [play(file, role, way, secrets=secrets.get(role, Secrets())) for role, way in ways]
        return await asyncio.gather(*tasks)

    return {report.role: digest(report.tensors) for report in asyncio.run(all_seats())}
