"""The result table at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedsim.report.seeds import rederive, spread
from fedsim.report.view import mean
from fedsim.report.words import how_certain, interval, number, size, title

TASK = (
    "joint_success", "domain_success", "accuracy", "pgd_accuracy", "source_accuracy", "poison_label", "victim_taken",
    "roc_auc", "log_loss", "chose_the_best", "decided", "pulls", "union_accuracy",
)  # fmt: skip
WIDEST = 15
"""Characters of a line of a heading."""
LEFT_OUT = ("balanced_accuracy", "macro_f1")
"""Of the task, what no table shows; whatever else a scenario measures stands in the table over seeds, a line each."""
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Fared:
    """One trial of one arm: score and blind guess, each a mean over the victims; over seeds a spread of such means."""

    label: str
    seat: str
    victims: Sequence[str]
    metric: str
    score: Any
    chance: Any

    @property
    def against(self) -> str:
        """The victims, in few words."""
        return f"{len(self.victims)} seats" if len(self.victims) > 2 else ", ".join(self.victims)

    @property
    def what(self) -> str:
        """Who attacks whom, and how that is measured."""
        return f"{self.label} at {self.seat} against {self.against}: {title(self.metric)}"


def print_results(path: Path) -> None:
    """What each arm reached, what each attack scored beside a blind guess, and what it cost; then where the run lies."""
    summary = rederive(json.loads((path / "summary.json").read_text("utf-8")))
    console = Console()
    for table in [_over_seeds(summary)] if "seeds" in summary else _over_arms(summary, console):
        console.print(table)
        console.print()
    if "seeds" in summary:
        console.print(_certainty(summary), highlight=False)
        console.print()
    console.print(f"run folder: {path}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"report:     {path / 'report.html'}", soft_wrap=True, highlight=False, markup=False)


def bare(name: str, *columns: str) -> Table:
    """A table as all commands print it: a line under the heading, nothing else."""
    table = Table(*columns, title=escape(name), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.show_edge = False
    table.pad_edge = False
    if not name:
        table.title = None
    return table


def _over_arms(summary: Numbers, console: Console) -> list[Table]:
    """One table with a row an arm where it fits, attacks in one of their own if not; where neither does, a column an arm."""
    name, arms = f"{summary['name']} (seed {summary['seed']})", summary["arms"]
    fared = {arm: _fared(numbers["trials"]) for arm, numbers in arms.items()}
    whole = _row_an_arm(name, arms, fared)
    if _fits(whole, console):
        return [whole]
    attacks = [_row_a_trial(fared)] if any(fared.values()) else []
    if _fits(_row_an_arm(name, {fill(arm, WIDEST): numbers for arm, numbers in arms.items()}, {}), console):
        return [_row_an_arm(name, arms, {}), *attacks]
    return [*_upright(name, arms, console), *attacks]


def _fits(table: Table, console: Console) -> bool:
    unlimited = console.options.update(width=10 * console.width)
    return console.measure(table, options=unlimited).maximum <= console.width


def _upright(name: str, arms: Numbers, console: Console) -> list[Table]:
    """Tables with a column an arm, each with as many arms as fit."""
    for many in range(len(arms), 0, -1):
        parts = [dict(list(arms.items())[at : at + many]) for at in range(0, len(arms), many)]
        tables = [_row_a_metric(name if not at else "", part) for at, part in enumerate(parts)]
        if all(_fits(table, console) for table in tables):
            break
    return tables


def _row_a_metric(name: str, arms: Numbers) -> Table:
    table = bare(name, "")
    for arm in arms:
        table.add_column(escape(fill(arm, WIDEST)), justify="right", no_wrap=True)
    for metric in _metrics(arms):
        table.add_row(title(metric), *(number(numbers["task"].get(metric), metric) for numbers in arms.values()))
    table.add_row("traffic", *(size(numbers["traffic"]["bytes"]) for numbers in arms.values()))
    table.add_row("seconds", *(f"{numbers['seconds']:.1f}" for numbers in arms.values()))
    return table


def _metrics(arms: Numbers) -> list[str]:
    """What the tables over arms show of the task."""
    return [metric for metric in TASK if any(metric in arm["task"] for arm in arms.values())]


def _row_an_arm(name: str, arms: Numbers, fared: Mapping[str, Mapping[int, Fared]]) -> Table:
    table = bare(name, "arm")
    metrics = _metrics(arms)
    trials = {n: trial for found in fared.values() for n, trial in found.items()}
    pairs = [(f"{escape(trial.label)}\n{title(trial.metric)}", "blind\nguess") for trial in trials.values()]
    for heading in (
        *(fill(title(metric), WIDEST) for metric in metrics),
        *(word for pair in pairs for word in pair),
        "traffic",
        "seconds",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm, numbers in arms.items():
        task = [number(numbers["task"].get(metric), metric) for metric in metrics]
        scores = [cell for n in trials for cell in _pair(fared[arm].get(n))]
        table.add_row(escape(arm), *task, *scores, size(numbers["traffic"]["bytes"]), f"{numbers['seconds']:.1f}")
    return table


def _pair(trial: Fared | None) -> tuple[str, str]:
    return (number(trial.score, trial.metric), number(trial.chance, trial.metric)) if trial else ("–", "–")


def _row_a_trial(fared: Mapping[str, Mapping[int, Fared]]) -> Table:
    table = bare("attacks (mean over their victims)", "attack, arm")
    for heading in ("score", "blind guess"):
        table.add_column(heading, justify="right", no_wrap=True)
    for n in dict.fromkeys(n for found in fared.values() for n in found):
        own = [(arm, found[n]) for arm, found in fared.items() if n in found]
        table.add_row(escape(own[0][1].what), "", "")
        for arm, trial in own:
            table.add_row(f"  {escape(arm)}", *_pair(trial))
        table.add_section()
    return table


def _fared(trials: Sequence[Numbers]) -> dict[int, Fared]:
    """The trials of an arm, by number."""
    found: dict[int, list[Numbers]] = {}
    for trial in trials:
        found.setdefault(trial["trial"], []).append(trial)
    return {
        n: Fared(
            same[0]["label"],
            same[0]["seat"],
            [trial["victim"] for trial in same],
            same[0]["metric"],
            *(_mean([trial[key] for trial in same]) for key in ("score", "chance")),
        )
        for n, same in found.items()
    }


def _mean(values: Sequence[Any]) -> Any:
    """The mean over the victims; of spreads over seeds, the spread of each seed's mean."""
    if not isinstance(values[0], Mapping):
        return mean(values)
    return spread([mean(of_seed) for of_seed in zip(*(value["values"] for value in values), strict=True)])


def _over_seeds(summary: Numbers) -> Table:
    seeds = ", ".join(map(str, summary["seeds"]))
    table = bare(f"{summary['name']} (seeds {seeds})", "arm, what")
    for heading in ("mean", "interval", "blind guess"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, arm in summary["arms"].items():
        table.add_row(escape(name), "", "", "")
        for what, *numbers in _of_arm(arm):
            table.add_row(f"  {escape(what)}", *numbers)
        table.add_section()
    return table


def _certainty(summary: Numbers) -> str:
    """How the intervals of the table over seeds are computed."""
    arms = summary["arms"].values()
    shown = [spread for arm in arms for spread in arm["task"].values()]
    return how_certain([*shown, *(trial["score"] for arm in arms for trial in arm["trials"])], summary["level"])


def _of_arm(arm: Numbers) -> Iterator[tuple[str, str, str, str]]:
    for metric in dict.fromkeys([*TASK, *arm["task"]]):
        if metric in arm["task"] and metric not in LEFT_OUT:
            yield title(metric), *_ends(arm["task"][metric], metric), ""
    for trial in _fared(arm["trials"]).values():
        yield trial.what, *_ends(trial.score, trial.metric), number(trial.chance["mean"], trial.metric)


def _ends(value: Numbers, metric: str) -> tuple[str, str]:
    return number(value["mean"], metric), interval(value, metric) if value["low"] is not None else "–"
