"""The summary over several seeds of one file: means with bootstrap 95 % intervals; see docs/summary.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedsim.metrics import interval
from fedsim.report.summary import SCHEMA, same_measure

LEVEL = 0.95


def over_seeds(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One summary over the runs of several seeds.

    Args:
        summaries: each run's summary by its folder, relative to the one that holds them all; equal but for the seed.
    """
    runs = list(summaries.values())
    first = runs[0]
    return {
        "schema": SCHEMA,
        "name": first["name"],
        "scenario": first["scenario"],
        "runtime": first["runtime"],
        "seeds": [run["seed"] for run in runs],
        "runs": list(summaries),
        "level": LEVEL,
        "arms": {name: _arm([run["arms"][name] for run in runs], runs) for name in first["arms"]},
    }


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and interval of the mean, beside the values; null where a seed has no number."""
    numbers = [value for value in values if value is not None]
    mean, low, high = interval(numbers, LEVEL) if len(numbers) == len(values) else (None, None, None)
    return {"mean": mean, "low": low, "high": high, "values": list(values)}


def _arm(arms: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    task = _columns([arm["task"] for arm in arms])
    constant = _columns([arm.get("baseline", {}) for arm in arms])
    first = _columns([run["task"] for run in runs]) if _comparable(arms, runs) else {}
    return {
        "measured_on": arms[0].get("measured_on"),
        "task": {metric: spread(values) for metric, values in task.items()},
        "baseline": {metric: spread(values) for metric, values in constant.items()},
        # a seed has one set of held-out rows: differences under the same seed are narrower than the two intervals
        "gain": {m: spread(_minus(task[m], constant[m])) for m in task if m in constant},
        # one seed draws the same batches in every arm: paired differences are narrower than the arms' intervals
        "price": {m: spread(_minus(task[m], first[m])) for m in task if m in first},
        "trials": _trials(arms),
        "traffic": {key: spread([arm["traffic"][key] for arm in arms]) for key in ("frames", "bytes")},
        "steps": arms[0]["steps"],
        "seconds": spread([arm["seconds"] for arm in arms]),
    }


def _comparable(arms: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether this arm and the first were scored on the same data in each run."""
    return all(
        same_measure(arm.get("measured_on"), run.get("measured_on")) for arm, run in zip(arms, runs, strict=True)
    )


def _trials(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each attack at each victim over the seeds; a seed in which it was not run has no number."""
    found: dict[tuple[Any, ...], list[Mapping[str, Any] | None]] = {}
    for i, trial in ((i, trial) for i, arm in enumerate(arms) for trial in arm["trials"]):
        key = tuple(trial[name] for name in ("trial", "label", "seat", "victim", "metric"))
        found.setdefault(key, [None] * len(arms))[i] = trial
    return [_trial(same) for same in found.values()]


def _trial(same: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    first = next(trial for trial in same if trial is not None)
    names = ("trial", "attack", "label", "settings", "seat", "victim", "metric", "knows")
    fixed = {key: first[key] for key in names if key in first}
    scores, chances = (_columns([trial[key] if trial else {} for trial in same]) for key in ("scores", "chances"))
    return {
        **fixed,
        "score": spread([trial["score"] if trial else None for trial in same]),
        "chance": spread([trial["chance"] if trial else None for trial in same]),
        "scores": {metric: spread(values) for metric, values in scores.items()},
        "chances": {metric: spread(values) for metric, values in chances.items()},
    }


def _columns(rows: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    """By metric, the value of each row; a metric may be undefined for a seed (AUC, if a class is not held out)."""
    metrics = dict.fromkeys(metric for row in rows for metric in row)
    return {metric: [row.get(metric) for row in rows] for metric in metrics}


def _minus(ones: Sequence[float | None], others: Sequence[float | None]) -> list[float | None]:
    return [None if a is None or b is None else a - b for a, b in zip(ones, others, strict=True)]
