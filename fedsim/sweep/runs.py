"""The runs of a sweep: a cell under a seed, the folder it goes to, and whether it is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.axes import Cell
from fedsim.config import ScenarioFile, validate
from fedsim.report.folder import complete
from fedsim.report.record import slugs


@dataclass(frozen=True)
class SweepRun:
    """One cell under one seed.

    Attributes:
        name: the cell and the seed, in a few words.
        file: what is played; `fedsim run` of the same file gives the same numbers.
        folder: where it goes: ``trials/<slug>``, relative to the folder of the sweep.
    """

    name: str
    cell: Cell
    file: ScenarioFile
    folder: str


Tell = Callable[[SweepRun, Mapping[str, Any]], None]
"""Told of a run: its ``status``, with a ``cause`` if it failed; or, while it goes on, what it has reached."""


def runs(file: ScenarioFile) -> list[SweepRun]:
    """Every run within the budget: every cell under the first seed, then under the second.

    Raises:
        ConfigError: as `ScenarioFile.cells`.
    """
    cells, sweep = file.cells(), file.sweep
    assert sweep is not None
    where = {"runtime": {"kind": "local"}} if sweep.pack else {}
    seeds = range(file.seed, file.seed + sweep.seeds)
    named = {(i, seed): f"{cell.name}, seed {seed}" for seed in seeds for i, (cell, _) in enumerate(cells)}
    folders = slugs(named.values())
    return [
        SweepRun(name, cells[i][0], _changed(cells[i][1], {"seed": seed, **where}), f"trials/{folders[name]}")
        for (i, seed), name in list(named.items())[: sweep.budget.trials]
    ]


def finished(run: SweepRun, out: Path) -> bool:
    """Whether the folder of a run holds its results, of the same file and the same data."""
    return complete(out / run.folder, run.file)


def different(runs: Iterable[SweepRun]) -> list[SweepRun]:
    """One run of each scenario: what is wrong with its data or its models is wrong under every seed and every attack."""
    return list({run.file.scenario.model_dump_json(): run for run in runs}.values())


def _changed(file: ScenarioFile, changes: Mapping[str, Any]) -> ScenarioFile:
    return validate({**file.resolved(), **changes}, file.name, {})
