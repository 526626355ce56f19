"""The model card of a trained run: its weights are taken up, appraised, and what takes a training of its own is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.errors import ConfigError, OutputError, suggest
from fedsim.figure import Figure, figure
from fedsim.files import write_files
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.plan import Scenario
from fedsim.plugins import find, own_names
from fedsim.report import card
from fedsim.report.lock import FolderLock
from fedsim.report.paths import PathFilter
from fedsim.report.reading import Run, check_models_present, read
from fedsim.report.replacing import CARD
from fedsim.report.words import listed
from fedsim.report.writing import json_bytes, reporting_failures
from fedsim.resilience import Row, Table
from fedsim.seeding import determine

Started = Callable[[str, ScenarioFile], Watch]
"""Called before each playing with a title and its file; returns who watches it."""
SCHEMA = 1


def write(
    folder: Path,
    *,
    arm: str = "",
    by: Sequence[str] = (),
    runtime: str = "",
    training: bool = True,
    started: Started,
) -> tuple[Path, ...]:
    """Write ``card.md``, ``card.html`` and ``card.json`` into a run folder; returns where they lie.

    Args:
        folder: a run.
        arm: of its arms; default: the first.
        by: columns that tell groups of people apart, instead of those of the scenario.
        runtime: a kind; where the seats are played. Default: that of the run.
        training: whether to play what takes a training: wrong labels.
        started: told of each playing.

    Raises:
        InputError: not a run, no such arm, a scenario of which there is no card, or another process writes there.
        FedsimError: whatever ended a playing.
    """
    read(folder)  # a folder that is no run is left alone
    with reporting_failures(folder):
        lock = FolderLock.acquire(folder, "writing a model card")
    try:
        return _write(folder, arm, by, runtime, training, started)
    finally:
        lock.release()


def _write(
    folder: Path, arm: str, by: Sequence[str], runtime: str, training: bool, started: Started
) -> tuple[Path, ...]:
    run = read(folder)
    if run.over_seeds:
        raise OutputError(f"{folder}: a summary over seeds; choose one of its runs: {', '.join(run.summary['runs'])}")
    name, file, scenario = _chosen(run, arm, runtime)
    if file.scenario.uncarded:
        raise ConfigError(f"{folder}: {_uncarded(file.scenario)}")
    check_models_present(run, name)
    appraised = file.scenario.appraised(str(folder.resolve()), name, by)
    whole = file.model_copy(update={"scenario": appraised, "trials": ()})
    title = run.name if len(run.summary["arms"]) == 1 else f"{run.name}: {name}"
    reports = whole.runtime.run(whole, started(f"{title}, appraisal", whole))
    table = _table(reports)
    if training:
        table = _trained(file, table, started)
    found = _found(reports, table)
    parts = card.sections(run, name, found, scenario)
    plain = {"schema": SCHEMA, "arm": name, "digest": whole.digest(), "task": found.task, "baseline": found.baseline}
    plain["resilience"] = table.plain()
    plain["figures"] = [each for report in reports for each in report.figures]
    markdown = PathFilter([run]).hide(card.markdown(title, parts))
    contents = markdown.encode(), card.html(run, title, parts).encode(), json_bytes(plain)
    paths = tuple(folder / name for name in CARD)
    with reporting_failures(folder):
        write_files(folder, dict(zip(CARD, contents, strict=True)))
    return paths


def _chosen(run: Run, arm: str, runtime: str) -> tuple[str, ScenarioFile, Mapping[str, Any]]:
    """The arm, its file, and the scenario of the whole file as plain values."""
    whole = config.read(str(run.path / "scenario.yaml"), runtime=runtime)
    arms = whole.arms()
    name = arm or next(iter(arms))
    if name not in arms or name not in run.summary["arms"]:
        raise OutputError(f"{run.path}: no arm '{name}'{suggest(name, set(arms) & set(run.summary['arms']))}")
    determine(arms[name].threads)
    return name, arms[name], whole.resolved()["scenario"]


def _uncarded(scenario: Scenario) -> str:
    """Why there is no model card of a run, and of which there is one."""
    carded = [kind for kind in own_names("scenarios") if not find("scenarios", kind, Scenario).uncarded]
    return f"no model card of {scenario.kind()}: {scenario.uncarded}; there is one of runs of {listed(carded)}"


def _table(reports: Sequence[SeatReport]) -> Table:
    return next(Table.of(r.describe["found"]["resilience"]) for r in reports if "found" in r.describe)


def _trained(file: ScenarioFile, table: Table, started: Started) -> Table:
    """The table with a row for each training of its own."""
    plain, wrongs = file.scenario.retrained()
    axes, rows = list(table.axes), list(table.rows)
    for axis, level, seat, wrapper in wrongs:
        seats = {**file.seats, seat: (*file.seats.get(seat, ()), wrapper)}
        one = file.model_copy(update={"scenario": plain, "trials": (), "seats": seats})
        reports = one.runtime.run(one, started(f"{file.name}: {axis.name}, {level:g}", one))
        scores = _scores(reports)
        accuracy, given = scores["accuracy"], wrapper.model_dump(mode="json", exclude_defaults=False)
        made = f"{given.pop('kind')} ({', '.join(f'{k}={v}' for k, v in given.items())}) in training"
        rows.append(Row(axis.name, level, seat, made, [file.seed], accuracy, accuracy, scores["log_loss"]))
        axes += [axis] if axis not in axes else []
    return replace(table, axes=axes, rows=rows)


def _scores(reports: Sequence[SeatReport], what: str = "test") -> dict[str, float]:
    """The last evaluation, or the ``baseline`` beside it."""
    return dict([row for report in reports for row in report.rows if "test" in row][-1].get(what, {}))


def _found(reports: Sequence[SeatReport], table: Table) -> card.Found:
    resilience = list(table.figures())
    titles = {each.title for each in resilience}
    drawn: list[Figure] = [figure(values) for report in reports for values in report.figures]
    others = [each for each in drawn if each.title not in titles]
    fairness = [each for each in others if each.title.startswith("Fairness")]
    worth = [each for each in others if each not in fairness]
    return card.Found(
        _scores(reports),
        _scores(reports, "baseline"),
        fairness,
        worth,
        resilience,
        {n: _version(n) for n in card.LIBRARIES},
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
