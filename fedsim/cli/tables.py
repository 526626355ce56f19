"""The result table at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def print_results(path: Path) -> None:
    """A row an arm: the task's metrics, each attack's score beside a blind guess, the price in bytes and seconds."""
    summary = json.loads((path / "summary.json").read_text("utf-8"))
    console = Console()
    console.print(_over_seeds(summary) if "seeds" in summary else _one(summary))
    console.print(f"run folder: {path}", soft_wrap=True, highlight=False)
    console.print(f"report:     {path / 'report.html'}", soft_wrap=True, highlight=False)


def _one(summary: Mapping[str, Any]) -> Table:
    table = Table(title=f"{summary['name']} (seed {summary['seed']})", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("arm")
    for heading in ("accuracy", "AUC", "log loss"):
        table.add_column(heading, justify="right")
    trials = _trials(next(iter(summary["arms"].values()))["trials"])
    for name in trials:
        table.add_column(name, justify="right")
        table.add_column("blind", justify="right")
    for heading in ("MB", "seconds"):
        table.add_column(heading, justify="right")
    for name, arm in summary["arms"].items():
        scores = [
            cell for score, chance in _trials(arm["trials"]).values() for cell in (f"{score:.3g}", f"{chance:.3g}")
        ]
        task = [_number(arm["task"].get(metric)) for metric in ("accuracy", "roc_auc", "log_loss")]
        table.add_row(name, *task, *scores, f"{arm['traffic']['bytes'] / 1e6:.1f}", f"{arm['seconds']:.1f}")
    return table


def _trials(trials: list[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """By attack and metric, the mean score and the mean of a blind guess over its victims."""
    found: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        key = f"{trial['label']}\n{trial['metric']}"
        found.setdefault(key, []).append((trial["score"], trial["chance"]))
    return {k: (sum(s for s, _ in v) / len(v), sum(c for _, c in v) / len(v)) for k, v in found.items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _over_seeds(summary: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"{summary['name']} (seeds {', '.join(map(str, summary['seeds']))}; mean and 95 % interval)",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("arm")
    table.add_column("what")
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("blind", justify="right")
    for name, arm in summary["arms"].items():
        for metric in ("accuracy", "roc_auc", "log_loss"):
            if metric in arm["task"]:
                table.add_row(name, metric, *_spread(arm["task"][metric]), "")
        for trial in arm["trials"]:
            what = f"{trial['label']} against {trial['victim']}, {trial['metric']}"
            table.add_row(name, what, *_spread(trial["score"]), _number(trial["chance"]["mean"]))
        table.add_section()
    return table


def _spread(spread: Mapping[str, Any]) -> tuple[str, str]:
    return _number(spread["mean"]), f"{_number(spread['low'])} to {_number(spread['high'])}"
