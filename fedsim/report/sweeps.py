"""The summary over the cells of a sweep: each with means and intervals over its seeds; see docs/summary.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim.axes import Cell, Range
from fedsim.confidence import LEVEL
from fedsim.config import ScenarioFile
from fedsim.errors import OutputError
from fedsim.plan import Aim
from fedsim.report.matching import match_attacks
from fedsim.report.reading import read_numbers
from fedsim.report.replacing import read_status
from fedsim.report.seeds import over_seeds, spread
from fedsim.report.summary import SCHEMA, same_measure
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
    leakages = leakage_metrics(file)
    cells = [_cell(same, failed, path, sweep.task, leakages) for same in by_name.values()]
    for metric in leakages:
        _mark_front([cell["leakages"][metric] for cell in cells], cells, sweep.attackers, sweep.task, metric)
    for cell in cells if leakages else ():
        cell["front"] = cell["leakages"][leakages[0]]["front"]
    return {
        "schema": SCHEMA,
        "name": file.name,
        "scenario": file.scenario.kind(),
        "digest": file.sweep_digest(),
        "level": LEVEL,
        "task": sweep.task,
        "leakage": leakage_metric(file),
        "leakages": leakages,
        "axes": {name: _labels(name, cells) for name in sweep.axes},
        "drawn": [name for name, axis in sweep.random.items() if isinstance(axis, Range)],
        "attackers": sweep.attackers,
        "cells": cells,
    }


def leakage_metric(file: ScenarioFile) -> str:
    """The metric of the attacks that cells are compared by first; empty where nobody attacks."""
    return next(iter(leakage_metrics(file)), "")


def leakage_metrics(file: ScenarioFile) -> list[str]:
    """The metrics that cells are compared by, one axis each: the file's own, or one that all attacks have, or several.

    A metric that only some attacks have says nothing of the cells of the others.
    """
    assert file.sweep is not None
    if file.sweep.leakage:
        return [file.sweep.leakage]
    aims = [aim for _, cell in file.cells() for aim in cell.plan().aims]
    if not aims:
        return []
    if common := [metric for metric in _metrics(aims[0]) if all(metric in _metrics(aim) for aim in aims)]:
        return common[:1]
    found: list[str] = []
    for aim in aims:
        if not set(found) & set(_metrics(aim)):
            found.append(aim.metric)
    return found


def by_leakage(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The summary once for each metric of leakage, with the figures of its cells by that metric."""
    metrics = summary.get("leakages") or [summary["leakage"]]
    return [
        {**summary, "leakage": metric, "cells": [_by(metric, cell) for cell in summary["cells"]]} for metric in metrics
    ]


def _by(metric: str, cell: Mapping[str, Any]) -> dict[str, Any]:
    if not cell["figures"] or metric not in (found := cell.get("leakages", {})):
        return {"attacks": {}, **cell}
    shown = found[metric]
    figures = {**cell["figures"], "leakage": shown["leakage"], "chance": shown["chance"]}
    return {**cell, "figures": figures, "front": shown["front"], "attacks": shown["attacks"]}


def figures(summary: Mapping[str, Any], task: str, leakage: str) -> dict[str, float | None]:
    """Of one run: the metric of the task; the strongest attack's leakage, a mean over its victims; the blind guess."""
    _, score, chance = _strongest(summary, leakage)
    return {"task": summary["task"].get(task), "leakage": score, "chance": chance}


def _strongest(summary: Mapping[str, Any], leakage: str) -> tuple[str, float | None, float | None]:
    """What the attack is called by which most leaks, what it scores and what a blind guess scores; "" where none is known."""
    found = []
    for attack in match_attacks({"": summary["trials"]}):
        entries = attack.results[""]
        score, chance = (mean([entry[key].get(leakage) for entry in entries]) for key in ("scores", "chances"))
        if score is not None:
            found.append((attack.title, score, chance))
    if not found:
        return "", None, None
    return (min if leakage in LESS_IS_BETTER else max)(found, key=lambda each: each[1])


def _metrics(aim: Aim) -> list[str]:
    return list(dict.fromkeys([aim.metric, *aim.attack.metrics]))


def _labels(axis: str, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """What occurs on an axis, numbers in their order."""
    labels = list(dict.fromkeys(cell["at"][axis] for cell in cells))
    numbers = {cell["at"][axis]: cell["numbers"].get(axis) for cell in cells}
    return labels if None in numbers.values() else sorted(labels, key=lambda label: numbers[label])


def _cell(
    runs: Sequence[Played], failed: Mapping[str, str], path: Path, task: str, leakages: Sequence[str]
) -> dict[str, Any]:
    cell = runs[0][0]
    found = {folder: summary for _, _, folder in runs if (summary := _read(path / folder)) is not None}
    summaries = list(found.values())
    over = over_seeds(found)["arms"] if found else {}
    return {
        "name": cell.name,
        "at": {axis: choice.label for axis, choice in cell.choices.items()},
        "numbers": cell.numbers,
        "seeds": [summary["seed"] for summary in summaries],
        "runs": list(found),
        "failed": [{"seed": seed, "run": run, "cause": failed[run]} for _, seed, run in runs if run in failed],
        "left_out": len(runs) - len(found) - sum(run in failed for _, _, run in runs),
        "measured_on": next((summary.get("measured_on") for summary in summaries), None),
        "figures": _figures(summaries, task, next(iter(leakages), "")),
        "leakages": {metric: _leakage(summaries, metric) for metric in leakages},
        "results": next(iter(over.values()), None),
        "front": False,
    }


def _figures(summaries: Sequence[Mapping[str, Any]], task: str, leakage: str) -> dict[str, Any] | None:
    """The figures that cells are compared by, over the runs of one cell."""
    if not summaries:
        return None
    each = [figures(summary, task, leakage) for summary in summaries]
    metrics = {"task": task, "leakage": leakage, "chance": ""}
    constant = spread([summary.get("baseline", {}).get(task) for summary in summaries], task)
    return {
        **{key: spread([one[key] for one in each], metric) for key, metric in metrics.items()},
        "baseline": constant,
    }


def _leakage(summaries: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """By one metric, what leaks in a cell: the strongest attack of each run, and how often that was which."""
    each = [_strongest(summary, metric) for summary in summaries]
    return {
        "leakage": spread([score for _, score, _ in each], metric),
        "chance": spread([chance for _, _, chance in each]),
        "attacks": dict(Counter(name for name, _, _ in each if name)),
        "front": False,
    }


def _read(path: Path) -> dict[str, Any] | None:
    """The summary of a run that came to its end."""
    try:
        return read_numbers(path) if read_status(path) == "complete" else None
    except OutputError:
        return None


def _mark_front(
    shown: Sequence[dict[str, Any]],
    cells: Sequence[Mapping[str, Any]],
    attackers: Sequence[str],
    task: str,
    leakage: str,
) -> None:
    """Mark the cells that no other beats in both figures under the same attacker: a weak attacker is no merit of a defence.

    Cells on other data are no rivals either. ``shown`` has by cell what leaks by the metric ``leakage``, and takes the marks.
    There is no best where cells do not differ, and none among those that learned no more than a constant guess.
    """
    points = []
    for one, cell in zip(shown, cells, strict=True):
        good = _better_when_more(cell["figures"] and cell["figures"]["task"]["mean"], task)
        leak = _better_when_more(one["leakage"]["mean"], leakage)
        if good is not None and leak is not None:
            points.append((one, cell, good, leak))
    for one, cell, good, leak in points:
        rivals = [(g, low) for _, other, g, low in points if _rivals(cell, other, attackers)]
        others = [rival for rival in rivals if rival != (good, leak)]
        beaten = any(g >= good and low <= leak for g, low in others)
        all_equal = len(rivals) > 1 and not others
        one["front"] = not beaten and not all_equal and has_learned(cell, task)


def has_learned(cell: Mapping[str, Any], task: str) -> bool:
    """Whether a cell does better in the task than a constant guess; where that is not known it is not held against it."""
    figures = cell["figures"]
    constant = figures and figures.get("baseline", {}).get("mean")
    if constant is None or figures["task"]["mean"] is None:
        return bool(figures)
    gain = figures["task"]["mean"] - constant
    return bool(gain < 0 if task in LESS_IS_BETTER else gain > 0)


def _rivals(one: Mapping[str, Any], other: Mapping[str, Any], attackers: Sequence[str]) -> bool:
    same = all(one["at"][axis] == other["at"][axis] for axis in attackers)
    return same and same_measure(one["measured_on"], other["measured_on"])


def _better_when_more(value: float | None, metric: str) -> float | None:
    """A figure, turned so that more means better for the task and more of a leak."""
    return -value if value is not None and metric in LESS_IS_BETTER else value


def measures(cells: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The names of the cells, parted by the data and the classes that they are scored on, as far as is known."""
    found: list[tuple[Mapping[str, Any], list[str]]] = []
    for cell in cells:
        if (measure := cell.get("measured_on")) is None:
            continue
        names = next((names for other, names in found if same_measure(measure, other)), None)
        if names is None:
            found.append((measure, names := []))
        names.append(cell["name"])
    return [names for _, names in found]
