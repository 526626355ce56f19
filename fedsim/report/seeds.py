"""The summary over several seeds of one file: means with 95 % confidence intervals; see docs/summary.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedsim.confidence import LEVEL, Estimate, estimate_difference, estimate_mean, estimate_outcomes
from fedsim.report.summary import SCHEMA, same_measure
from fedsim.report.words import OUTCOMES


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


def spread(values: Sequence[float | None], metric: str = "") -> dict[str, Any]:
    """The mean and its confidence interval, beside the values; null where a seed has no number.

    Args:
        values: one a seed.
        metric: what they are; outcomes of 0 or 1 have the interval of a share, all others that of a mean.
    """
    numbers = [value for value in values if value is not None]
    if not numbers or len(numbers) < len(values):
        return _spread(None, values)
    return _spread(estimate_outcomes(numbers) if metric in OUTCOMES else estimate_mean(numbers), values)


def spread_difference(ones: Sequence[float | None], others: Sequence[float | None], metric: str = "") -> dict[str, Any]:
    """The mean difference under the same seed and its interval, beside the differences; null where a seed has no number.

    Differences of outcomes of 0 or 1 have a mean and no interval: they are far from normal.
    """
    pairs = [(a, b) for a, b in zip(ones, others, strict=True) if a is not None and b is not None]
    values = [None if a is None or b is None else a - b for a, b in zip(ones, others, strict=True)]
    if not pairs or len(pairs) < len(values):
        return _spread(None, values)
    found = estimate_difference([a for a, _ in pairs], [b for _, b in pairs])
    return _spread(found._replace(method="none") if metric in OUTCOMES else found, values)


def reach(found: Mapping[str, Any]) -> tuple[float, float]:
    """How far the ends of a spread's interval are below and above its mean; 0 where it has none. Error bars take these."""
    return (0.0, 0.0) if found["low"] is None else (found["mean"] - found["low"], found["high"] - found["mean"])


def rederive(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The same summary with the intervals of spreads that do not say their method computed anew from their values.

    Earlier versions wrote percentile bootstrap intervals, which are too narrow for a few seeds.
    """
    # the figures of a sweep's cell are called by their part in the sweep, not by their metric
    parts: dict[tuple[str, ...], str] = {("figures", part): str(summary.get(part)) for part in ("task", "leakage")}

    def walk(node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [walk(value, path) for value in node]
        if not isinstance(node, Mapping):
            return node
        if not {"mean", "low", "high", "values"} <= node.keys() or "method" in node:
            return {key: walk(value, (*path, key)) for key, value in node.items()}
        metric = parts.get(path[-2:], path[-1])
        if "price" in path:
            return spread_difference(node["values"], [0.0] * len(node["values"]), metric)
        return spread(node["values"], metric)

    return {key: walk(value, (key,)) for key, value in summary.items()}


def _spread(found: Estimate | None, values: Sequence[float | None]) -> dict[str, Any]:
    ends = (found.low, found.high) if found is not None and found.has_interval else (None, None)
    return {
        "mean": None if found is None else found.mean,
        "low": ends[0],
        "high": ends[1],
        "n": sum(value is not None for value in values),
        "method": "none" if found is None else found.method,
        "values": list(values),
    }


def _arm(arms: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    task = _columns([arm["task"] for arm in arms])
    constant = _columns([arm.get("baseline", {}) for arm in arms])
    first = _columns([run["task"] for run in runs]) if _comparable(arms, runs) else {}
    return {
        "measured_on": arms[0].get("measured_on"),
        "task": {metric: spread(values, metric) for metric, values in task.items()},
        "baseline": {metric: spread(values) for metric, values in constant.items()},
        # a seed has one set of held-out rows: differences under the same seed are narrower than the two intervals
        "gain": {m: spread_difference(task[m], constant[m], m) for m in task if m in constant},
        # one seed draws the same batches in every arm: paired differences are narrower than the arms' intervals
        "price": {m: spread_difference(task[m], first[m], m) for m in task if m in first},
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
