"""A sweep from its file to its report: what is there already is kept, what failed is said and played again next time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim import experiment
from fedsim.config import ScenarioFile
from fedsim.errors import FedsimError, SweepError
from fedsim.report import reading, sweep_page
from fedsim.report.folder import RunFolder, default_path, settle
from fedsim.report.sweeps import figures, leakage_metric, over_cells
from fedsim.sweep import tune
from fedsim.sweep.runs import SweepRun, Tell, different, finished, runs

Begun = Callable[[ScenarioFile, Sequence[SweepRun], Sequence[SweepRun], int], Tell]
"""Called with the file, all runs, those still to be played, and how many go on at once; returns who is told of them."""


def _untold(file: ScenarioFile, every: Sequence[SweepRun], todo: Sequence[SweepRun], at_once: int) -> Tell:
    return lambda run, news: None


def sweep(
    file: ScenarioFile,
    out: Path | None = None,
    *,
    command: Sequence[str] = (),
    begun: Begun = _untold,
    verbose: bool = False,
) -> Path:
    """Play the sweep of a file and write its folder; returns where it lies.

    Args:
        file: as `fedsim.config.read` gives it.
        out: the folder; default ``runs/<name>-<digest8>-sweep``. The same sweep goes on where it stopped.
        command: the command line, for the manifests.
        begun: told before the first run.
        verbose: whether Ray may print.

    Raises:
        ConfigError: the file has no sweep, or it needs Ray, which is not installed.
        InputError: what `fedsim.experiment.rehearse` found; no folder was made.
        OutputError: the folder holds something else.
        SweepError: runs failed; the report is over the others.
    """
    every = runs(file)
    path = out or default_path(file, sweep=True)
    todo = [run for run in every if not finished(run, path)]
    if file.sweep is not None and file.sweep.pack:
        tune.need()
    for run in different(todo):
        experiment.rehearse(run.file)
    with RunFolder.open_for(path, file, command, sweep=True) as folder:
        tell = _with_figures(file, path, begun(file, every, todo, _at_once(file)))
        played = {run.folder for run in todo}
        for run in (run for run in every if run.folder not in played):
            tell(run, {"status": "kept"})
        failed = _play(file, todo, path, command, tell, verbose) if todo else {}
        summary = over_cells(file, [(run.cell, run.file.seed, run.folder) for run in every], failed, path)
        folder.write_summary(summary)
        left = sum(not finished(run, path) for run in every)
        if failed:
            over = folder.conclude("failed", _counted(failed, every))
        elif left:
            over = folder.conclude("complete", f"{left} of {len(every)} runs left out: the time of the budget was over")
        else:
            over = folder.conclude()
        folder.write_page(sweep_page.render(over))
    if failed:
        raise SweepError(f"{path}: {_counted(failed, every)}")
    return path


def _with_figures(file: ScenarioFile, out: Path, tell: Tell) -> Tell:
    """Adds to the news that a run is complete what it came to."""
    assert file.sweep is not None
    metrics = file.sweep.task, leakage_metric(file)

    def told(run: SweepRun, news: Mapping[str, Any]) -> None:
        if news.get("status") in ("complete", "kept"):
            news = {**news, "figures": figures(reading.read(out / run.folder).summary, *metrics)}
        tell(run, news)

    return told


def _at_once(file: ScenarioFile) -> int:
    assert file.sweep is not None
    if not file.sweep.pack:
        return 1
    return file.sweep.at_once or max(1, (os.cpu_count() or 1) // file.threads)


def _play(
    file: ScenarioFile, todo: Sequence[SweepRun], out: Path, command: Sequence[str], tell: Tell, verbose: bool
) -> dict[str, str]:
    """Play runs; the causes of those that failed, by folder."""
    assert file.sweep is not None
    failed: dict[str, str] = {}
    going: dict[str, SweepRun] = {}

    def told(run: SweepRun, news: Mapping[str, Any]) -> None:
        if news.get("status") == "running":
            going[run.folder] = run
        elif "status" in news:
            going.pop(run.folder, None)
        if news.get("status") == "failed":
            failed[run.folder] = str(news["cause"])
            settle(out / run.folder, "failed", failed[run.folder])
        tell(run, news)

    until = time.time() + (file.sweep.budget.time or math.inf)
    try:
        if file.sweep.pack:
            with tune.session(_at_once(file), verbose):
                tune.play(todo, out, _at_once(file), until, command, told)
        else:
            _one_by_one(todo, out, until, command, told)
    finally:
        for folder in going:
            settle(out / folder, "interrupted", "stopped from outside")
    return failed


def _one_by_one(todo: Sequence[SweepRun], out: Path, until: float, command: Sequence[str], tell: Tell) -> None:
    """Play runs by the runtime that the file names, in this process or started from it."""
    for run in todo:
        if time.time() >= until:
            tell(run, {"status": "left out"})
            continue
        tell(run, {"status": "running"})
        try:
            experiment.run(run.file, out / run.folder, command=command)
        except FedsimError as error:
            tell(run, {"status": "failed", "cause": f"{type(error).__name__}: {error}"})
        else:
            tell(run, {"status": "complete"})


def _counted(failed: Mapping[str, str], every: Sequence[SweepRun]) -> str:
    folder, cause = next(iter(failed.items()))
    return f"{len(failed)} of {len(every)} runs failed; {folder}: {' '.join(cause.split())}"
