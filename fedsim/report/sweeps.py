"""The summary over the cells of a sweep: each with means and intervals over its seeds; see docs/summary.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim.axes import Cell, Range
from fedsim.confidence import LEVEL
from fedsim.config import ScenarioFile
from fedsim.plan import Aim
from fedsim.report.seeds import over_seeds, spread
from fedsim.report.summary import SCHEMA
from fedsim.report.view import mean
from fedsim.report.words import LESS_IS_BETTER

Played = tuple[Cell, int, str]
"""A run of a sweep: its cell, its seed, its folder."""


def over_cells(file: ScenarioFile, runs: Sequence[Played], failed: Mapping[str, str], path: Path) -> dict[str, Any]:
    """One summary over the runs of a sweep that came to their end.

    Args:
        file: with the sweep.
        runs: every run of the sweep.
        failed: the causes of those that failed, by folder.
        path: the folder of the sweep, in which theirs lie.
    """
    sweep = file.sweep
    assert sweep is not None
    by_name: dict[str, list[Played]] = {}
    for run in runs:
        by_name.setdefault(run[0].name, []).append(run)
    leakage = leakage_metric(file)
    cells = [_cell(same, failed, path, sweep.task, leakage) for same in by_name.values()]
    _mark_front(cells, sweep.attackers, sweep.task, leakage)
    return {
        "schema": SCHEMA,
        "name": file.name,
        "scenario": file.scenario.kind(),
        "digest": file.sweep_digest(),
        "level": LEVEL,
        "task": sweep.task,
        "leakage": leakage,
        "axes": {name: _labels(name, cells) for name in sweep.axes},
        "drawn": [name for name, axis in sweep.random.items() if isinstance(axis, Range)],
        "attackers": sweep.attackers,
        "cells": cells,
    }


def leakage_metric(file: ScenarioFile) -> str:
    """The metric of the attacks that cells are compared by: the file's own, or else the first that all attacks have."""
    assert file.sweep is not None
    aims = [aim for _, cell in file.cells() for aim in cell.plan().aims]
    if file.sweep.leakage or not aims:
        return file.sweep.leakage
    common = [metric for metric in _metrics(aims[0]) if all(metric in _metrics(aim) for aim in aims)]
    return (common or [aims[0].metric])[0]


def figures(summary: Mapping[str, Any], task: str, leakage: str) -> dict[str, float | None]:
    """Of one run: the metric of the task; the strongest attack's leakage, a mean over its victims; the blind guess."""
    scores: dict[int, list[float | None]] = {}
    chances: dict[int, list[float | None]] = {}
    for trial in summary["trials"]:
        scores.setdefault(trial["trial"], []).append(trial["scores"].get(leakage))
        chances.setdefault(trial["trial"], []).append(trial["chances"].get(leakage))
    known = {number: value for number, values in scores.items() if (value := mean(values)) is not None}
    if not known:
        return {"task": summary["task"].get(task), "leakage": None, "chance": None}
    strongest = (min if leakage in LESS_IS_BETTER else max)(known, key=lambda number: known[number])
    return {"task": summary["task"].get(task), "leakage": known[strongest], "chance": mean(chances[strongest])}


def _metrics(aim: Aim) -> list[str]:
    return list(dict.fromkeys([aim.metric, *aim.attack.metrics]))


def _labels(axis: str, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """What occurs on an axis, numbers in their order."""
    labels = list(dict.fromkeys(cell["at"][axis] for cell in cells))
    numbers = {cell["at"][axis]: cell["numbers"].get(axis) for cell in cells}
    return labels if None in numbers.values() else sorted(labels, key=lambda label: numbers[label])


def _cell(runs: Sequence[Played], failed: Mapping[str, str], path: Path, task: str, leakage: str) -> dict[str, Any]:
    cell = runs[0][0]
    found = {folder: summary for _, _, folder in runs if (summary := _read(path / folder)) is not None}
    each = [figures(summary, task, leakage) for summary in found.values()]
    over = over_seeds(found)["arms"] if found else {}
    return {
        "name": cell.name,
        "at": {axis: choice.label for axis, choice in cell.choices.items()},
        "numbers": cell.numbers,
        "seeds": [summary["seed"] for summary in found.values()],
        "runs": list(found),
        "failed": [{"seed": seed, "run": run, "cause": failed[run]} for _, seed, run in runs if run in failed],
        "left_out": len(runs) - len(found) - sum(run in failed for _, _, run in runs),
        "figures": _figures(each, task, leakage),
        "results": next(iter(over.values()), None),
        "front": False,
    }


def _figures(each: Sequence[Mapping[str, float | None]], task: str, leakage: str) -> dict[str, Any] | None:
    """The figures that cells are compared by, over the runs of one cell."""
    if not each:
        return None
    metrics = {"task": task, "leakage": leakage, "chance": ""}
    return {key: spread([one[key] for one in each], metric) for key, metric in metrics.items()}


def _read(path: Path) -> dict[str, Any] | None:
    """The summary of a run that came to its end."""
    try:
        if json.loads((path / "manifest.json").read_text("utf-8"))["status"] != "complete":
            return None
        summary: dict[str, Any] = json.loads((path / "summary.json").read_text("utf-8"))
    except (OSError, ValueError, KeyError):
        return None
    return summary


def _mark_front(cells: Sequence[dict[str, Any]], attackers: Sequence[str], task: str, leakage: str) -> None:
    """Mark the cells that no other beats in both figures under the same attacker: a weak attacker is no merit of a defence."""
    points = []
    for cell in cells:
        good, leak = (_better_when_more(cell, key, metric) for key, metric in (("task", task), ("leakage", leakage)))
        if good is not None and leak is not None:
            points.append((cell, [cell["at"][axis] for axis in attackers], good, leak))
    for cell, attacker, good, leak in points:
        rivals = [(g, low) for _, other, g, low in points if other == attacker and (g, low) != (good, leak)]
        cell["front"] = not any(g >= good and low <= leak for g, low in rivals)


def _better_when_more(cell: Mapping[str, Any], key: str, metric: str) -> float | None:
    """A figure of a cell, turned so that more means better for the task and more of a leak."""
    value = cell["figures"][key]["mean"] if cell["figures"] else None
    return -value if value is not None and metric in LESS_IS_BETTER else value
