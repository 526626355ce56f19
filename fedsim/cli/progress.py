"""What a terminal shows while a run goes on: training, then claims of attacks. Elsewhere, when an arm begins and ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich import progress

from fedsim.cli.terminal import Terminal
from fedsim.config import ScenarioFile
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.report.words import number, title

APART = 0.05
"""Seconds between two updates of a bar, at least: a run may take a thousand steps a second."""


class Progress:
    """A live display of the arm that is being played, below a line for each that was; a context."""

    def __init__(self) -> None:
        self._console = Terminal(stderr=True, highlight=False)
        self._arm: _Arm | None = None
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=24),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle(complete=error is None)
        self._bars.stop()

    def arm(self, title: str, file: ScenarioFile) -> Watch:
        """Begin an arm: the one before becomes a line."""
        self._settle()
        if not self._console.is_terminal:
            steps = file.scenario.training_steps()
            begun = f"{title}: started" + (f", {steps} steps" if steps else "")
            self._console.print(begun, markup=False, soft_wrap=True)
        self._arm = shown = _Arm(self._bars, title, file)

        def watch(role: RoleId, row: Mapping[str, Any]) -> None:
            if "notice" in row:
                self._console.print(f"{title}: {row['notice']}", markup=False, soft_wrap=True)
            else:
                shown.watch(role, row)

        return watch

    def _settle(self, complete: bool = True) -> None:
        if self._arm is not None:
            line = self._arm.close()
            self._console.print(line if complete else f"{line} (not finished)", markup=False, soft_wrap=True)
        self._arm = None


class _Arm:
    """The bars of one arm."""

    def __init__(self, bars: progress.Progress, title: str, file: ScenarioFile) -> None:
        self._bars, self._title, self._aims = bars, title, max(len(file.plan().aims), 1)
        steps = file.scenario.training_steps()
        self._training = bars.add_task(f"{title}: training", total=steps, note="", visible=steps is not None)
        self._attacks = bars.add_task(f"{title}: attacks", total=self._aims, note="", visible=False)
        self._started, self._shown = time.monotonic(), 0.0
        self._claims: dict[str, float] = {}
        self._notes: dict[str, str] = {}
        self._steps = 0

    def watch(self, role: RoleId, row: Mapping[str, Any]) -> None:
        """Take a row: a loss, an evaluation, or how far a claim is."""
        if "claim" in row:
            self._claims[row["claim"]] = row["done"]
        elif "test" in row:
            first = "accuracy" if "accuracy" in row["test"] else next(iter(row["test"]))
            self._notes["test"] = f"test {title(first)} {number(row['test'][first], first)}"
        elif "loss" in row:
            self._steps, self._notes["loss"] = row["step"] + 1, f"loss {row['loss']:.3f}"
        if time.monotonic() - self._shown > APART:
            self._show()

    def close(self) -> str:
        """Take the bars away; a line that says what there was."""
        self._bars.remove_task(self._training)
        self._bars.remove_task(self._attacks)
        attacks = [f"{len(self._claims)} attack{'s' * (len(self._claims) > 1)}"] if self._claims else []
        steps = [f"{self._steps} steps"] if self._steps else []
        seconds = f"{time.monotonic() - self._started:.0f} s"
        return f"{self._title}: {', '.join([*steps, *self._notes.values(), *attacks, seconds])}"

    def _show(self) -> None:
        self._shown = time.monotonic()
        self._bars.update(self._training, completed=self._steps, note=", ".join(self._notes.values()))
        if self._claims:
            done = sum(part >= 1 for part in self._claims.values())
            total = max(self._aims, len(self._claims))
            note, completed = f"{done} of {total}", sum(self._claims.values())
            self._bars.update(self._attacks, completed=completed, total=total, note=note, visible=True)
