"""The summary over several seeds of one file: means with bootstrap 95 % intervals; see docs/summary.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedsim.metrics import interval
from fedsim.report.summary import SCHEMA

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
    baseline = _columns([run["task"] for run in runs])
    return {
        "task": {metric: spread(values) for metric, values in task.items()},
        # one seed draws the same batches in every arm: paired differences are narrower than the arms' intervals
        "price": {m: spread(_minus(task[m], baseline[m])) for m in task if m in baseline},
        "trials": [_trial(same) for same in zip(*(arm["trials"] for arm in arms), strict=True)],
        "traffic": {key: spread([arm["traffic"][key] for arm in arms]) for key in ("frames", "bytes")},
        "steps": arms[0]["steps"],
        "seconds": spread([arm["seconds"] for arm in arms]),
    }


def _trial(same: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    fixed = {key: same[0][key] for key in ("trial", "attack", "label", "seat", "victim", "metric", "knows")}
    scores, chances = _columns([t["scores"] for t in same]), _columns([t["chances"] for t in same])
    return {
        **fixed,
        "score": spread([trial["score"] for trial in same]),
        "chance": spread([trial["chance"] for trial in same]),
        "scores": {metric: spread(values) for metric, values in scores.items()},
        "chances": {metric: spread(values) for metric, values in chances.items()},
    }


def _columns(rows: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    """By metric, the value of each row; a metric may be undefined for a seed (AUC, if a class is not held out)."""
    metrics = dict.fromkeys(metric for row in rows for metric in row)
    return {metric: [row.get(metric) for row in rows] for metric in metrics}


def _minus(ones: Sequence[float | None], others: Sequence[float | None]) -> list[float | None]:
    return [None if a is None or b is None else a - b for a, b in zip(ones, others, strict=True)]
