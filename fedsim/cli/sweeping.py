"""``fedsim sweep`` on a terminal: a live table of cells, then the cells as they came out. On no terminal, a line a run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fedsim.axes import short
from fedsim.cli.tables import bare, fits
from fedsim.cli.terminal import Terminal
from fedsim.config import ScenarioFile
from fedsim.report.reading import read_sweep
from fedsim.report.sweeps import by_leakage, leakage_metric, measures
from fedsim.report.words import estimate, how_certain, number, title
from fedsim.sweep.runs import SweepRun, Tell

ROOM = 8
"""Lines of the terminal that are left to other things than cells."""
WIDEST = 44
"""Characters of the name of a cell."""


@dataclass
class _Row:
    """A cell while its runs go on: how many there are, how they ended, what is at work, what those that ended came to."""

    runs: int = 0
    done: int = 0
    failed: int = 0
    going: dict[str, str] = field(default_factory=dict)
    task: list[float] = field(default_factory=list)
    leakage: list[float] = field(default_factory=list)


class Board:
    """The live table; a context."""

    def __init__(self) -> None:
        self._console = Terminal(stderr=True, highlight=False)
        self._rows: dict[str, _Row] = {}
        self._metrics = {"task": "", "leakage": ""}
        self._started, self._todo, self._over = time.monotonic(), 0, 0
        self._first: float | None = None  # when the first run began: Ray takes seconds to start
        self._live = Live(console=self._console, get_renderable=self._show, transient=True, refresh_per_second=4)

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def begun(self, file: ScenarioFile, every: Sequence[SweepRun], todo: Sequence[SweepRun], at_once: int) -> Tell:
        """Show what is to be played; returns who is told of it."""
        for run in every:
            self._rows.setdefault(run.cell.name, _Row()).runs += 1
        self._metrics = {"task": file.sweep.task if file.sweep else "", "leakage": leakage_metric(file)}
        self._started, self._todo = time.monotonic(), len(todo)
        kept = f", {len(every) - len(todo)} there already" if len(todo) < len(every) else ""
        self._console.print(f"{len(self._rows)} cells, {len(every)} runs{kept}, {at_once} at a time", soft_wrap=True)
        if self._console.is_terminal and todo:
            self._live.start()
        return self._tell

    def _tell(self, run: SweepRun, news: Mapping[str, Any]) -> None:
        row, status = self._rows[run.cell.name], news.get("status", "going on")
        if status in ("running", "going on"):
            self._first = self._first or time.monotonic()
            row.going[run.name] = f"step {news['step'] + 1}" if "step" in news else "starting"
            return
        row.going.pop(run.name, None)
        row.done += status in ("complete", "kept")
        row.failed += status == "failed"
        for key, value in news.get("figures", {}).items():
            if key in self._metrics and value is not None:
                getattr(row, key).append(value)
        if status != "kept":
            self._over += 1
            self._say(run, status, news)

    def _say(self, run: SweepRun, status: str, news: Mapping[str, Any]) -> None:
        """A line for a run that is over, where the table does not show it."""
        if self._console.is_terminal and status != "failed":
            return
        scores = [
            f"{title(metric)} {number(news['figures'][key], metric)}"
            for key, metric in self._metrics.items()
            if metric and news.get("figures", {}).get(key) is not None
        ]
        cause = f": {' '.join(news['cause'].split())}" if "cause" in news else ""
        told = ", ".join(scores) or f"{status}{cause}"
        self._console.print(f"{run.name}: {told} ({self._over} of {self._todo})", markup=False, soft_wrap=True)

    def _show(self) -> Group:
        table = bare("", "cell")
        for heading in ("done", "failed", *(title(metric) for metric in self._metrics.values() if metric)):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("now", no_wrap=True)
        # with more cells than lines, those where something happens
        shown = sorted(self._rows.items(), key=lambda item: not item[1].going)[: max(4, self._console.height - ROOM)]
        for name, row in self._rows.items():
            if (name, row) in shown:
                means = [self._mean(row, key) for key, metric in self._metrics.items() if metric]
                short = name if len(name) <= WIDEST else f"{name[: WIDEST - 1]}…"
                done = f"{row.done} of {row.runs}"
                table.add_row(escape(short), done, str(row.failed or ""), *means, ", ".join(row.going.values()))
        return Group(table, Text(self._clock(len(self._rows) - len(shown))))

    def _mean(self, row: _Row, key: str) -> str:
        values = getattr(row, key)
        return number(sum(values) / len(values), self._metrics[key]) if values else ""

    def _clock(self, hidden: int) -> str:
        gone = time.monotonic() - self._started
        going = sum(len(row.going) for row in self._rows.values())
        each = (time.monotonic() - (self._first or self._started)) / max(self._over, 1)
        left = f", about {_clock(each * (self._todo - self._over))} to go" if self._over else ""
        more = f"; {hidden} cells are not shown" if hidden else ""
        return f"{self._over} of {self._todo} runs over, {going} at work, {_clock(gone)}{left}{more}"


def print_sweep(path: Path) -> None:
    """What each cell came to, means with intervals over its seeds; then where the sweep lies."""
    summary = read_sweep(path).summary
    console = Terminal()
    facets = by_leakage(summary)
    leakages = [facet for facet in facets if facet["leakage"]]
    for i, table in enumerate(_tables(summary, leakages, console)):
        if i:
            console.print()
        console.print(table)
    keys = ("task", *(["leakage"] if leakages else []))
    shown = [cell["figures"][key] for facet in facets for cell in facet["cells"] if cell["figures"] for key in keys]
    console.print(how_certain(shown, summary["level"]), highlight=False)
    if len(parts := measures(summary["cells"])) > 1:
        console.print(
            f"cells are scored on {len(parts)} sets of data or classes, which do not compare", highlight=False
        )
    if any(cell["front"] for facet in facets for cell in facet["cells"]):
        whose = " under the same attacker" if summary["attackers"] else ""
        console.print(f"◦ no other cell{whose} is better in both figures", highlight=False)
    console.print()
    console.print(f"sweep folder: {path}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"report:       {path / 'report.html'}", soft_wrap=True, highlight=False, markup=False)


Column = tuple[str, Sequence[str]]
"""A heading, and what stands below it, a cell of the sweep each."""


def _tables(summary: Mapping[str, Any], leakages: Sequence[Mapping[str, Any]], console: Console) -> list[Table]:
    """One table where it fits, with intervals below their means if need be; else one for the task and one for each leakage."""
    name = f"{summary['name']} (means over seeds)"
    parts = [_task(summary), *map(_leakage, leakages)]
    for broken in (False, True):
        whole = _table(name, summary, [column for part in parts for column in part], broken)
        if fits(whole, console):
            return [whole]
    return [_table(name if not i else "", summary, part, broken=True) for i, part in enumerate(parts)]


def _table(name: str, summary: Mapping[str, Any], columns: Sequence[Column], broken: bool) -> Table:
    axes, cells = short(summary["axes"]), summary["cells"]
    table = bare(name, *axes.values())
    for heading, _ in (*columns, ("seeds", ())):
        table.add_column(heading, justify="right", no_wrap=True)
    for i, cell in enumerate(cells):
        values = [column[i].replace(" (", "\n(") if broken else column[i] for _, column in columns]
        table.add_row(*(escape(cell["at"][axis]) for axis in axes), *values, str(len(cell["seeds"])))
    return table


def _task(summary: Mapping[str, Any]) -> tuple[Column, Column]:
    """How well cells solve the task, and what a constant guess scores."""
    metric, every = summary["task"], [cell["figures"] for cell in summary["cells"]]
    found = [estimate(figures["task"], metric) if figures else "–" for figures in every]
    constants = [number(f.get("baseline", {}).get("mean"), metric) if f else "–" for f in every]
    return (title(metric), found), ("constant\nguess", constants)


def _leakage(facet: Mapping[str, Any]) -> tuple[Column, Column]:
    """What leaks in cells by one metric, and what a blind guess scores; cells without an attack that has it say so."""
    metric, scores, chances = facet["leakage"], list[str](), list[str]()
    for cell in facet["cells"]:
        figures = cell["figures"]
        known = figures and figures["leakage"]["mean"] is not None
        gap = "–" if not figures or cell.get("attacks") else "not run"
        scores.append("◦ " * cell["front"] + estimate(figures["leakage"], metric) if known else gap)
        chances.append(number(figures["chance"]["mean"], metric) if known else "–")
    return (title(metric), scores), ("blind\nguess", chances)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
